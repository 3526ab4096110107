"""Who asks, and what they may do: the same for REST and gRPC."""
