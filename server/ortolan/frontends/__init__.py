"""The doors of the server: REST, gRPC and the metrics page, all thin over the same core."""
