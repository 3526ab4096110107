"""A gRPC client that knows nothing beforehand: ``python reflecting_client.py ADDRESS``.

It asks the server's reflection for its services and their files, makes message classes of these, calls every method
with an empty request, and prints for each service its methods with the status that they ended with.
"""

import json
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        services = {name: pool.FindServiceByName(name) for name in database.get_services()}
        found = {
            name: {method.name: ended(channel, method) for method in service.methods}
            for name, service in services.items()
        }
    json.dump(found, sys.stdout)


def ended(channel: grpc.Channel, method: Any) -> str:
    """The status of one call; OK for a stream as soon as it answers or ends."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
    call = getattr(channel, kind)(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    request = GetMessageClass(method.input_type)()
    try:
        answer = call(iter([request]) if method.client_streaming else request, timeout=20)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    main(*sys.argv[1:])
