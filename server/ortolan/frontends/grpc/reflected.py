"""What reflection tells clients of: our services and that of reflection itself, with all their definitions."""

from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ortolan.errors import InvalidArgument
from ortolan.frontends.grpc.call import Call
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import Raw


class Reflection:
    """``grpc.reflection.v1alpha.ServerReflection``: its one method."""

    service: str = reflection.SERVICE_NAME
    method = "ServerReflectionInfo"

    def __init__(self) -> None:
        # A pool of its own: reflection's definitions are no part of the protocol.
        pool = messages.descriptor_pool()
        pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
        services = (messages.INFERENCE_SERVICE, messages.HEALTH_SERVICE, reflection.SERVICE_NAME)
        self._answerer = reflection.ReflectionServicer(services, pool)

    async def answers(
        self,
        requests: AsyncIterator[Raw],
        call: Call,  # noqa: ARG002
    ) -> AsyncGenerator[bytes, None]:
        """An answer to each question, in their order. Raises InvalidArgument for what is none."""
        async for data in requests:
            try:
                question = reflection_pb2.ServerReflectionRequest.FromString(data)
            except DecodeError:
                raise InvalidArgument("the message is no ServerReflectionRequest") from None
            for answer in self._answerer.ServerReflectionInfo(iter((question,)), None):
                yield answer.SerializeToString()
