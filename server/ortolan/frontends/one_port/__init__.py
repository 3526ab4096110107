"""REST and gRPC on one port: which of them a connection speaks, and REST over HTTP/2."""
