"""What reflection tells clients of: our services and that of reflection itself, with all their definitions."""

from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from ortolan.protocol import protobuf_messages as messages


def enable(server: Any) -> None:
    """Let ``server`` answer reflection's questions."""
    # A pool of its own: reflection's definitions are no part of the protocol.
    pool = messages.descriptor_pool()
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    services = (messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(services, server, pool=pool)
