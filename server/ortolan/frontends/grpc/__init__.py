"""The gRPC frontend: ``inference.GRPCInferenceService``, ``grpc.health.v1`` and reflection."""
