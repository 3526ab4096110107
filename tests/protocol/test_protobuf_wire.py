"""Our definitions against those that Triton's own client carries: names, numbers, types, labels, oneofs and enums."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, MethodDescriptorProto
from tritonclient.grpc import model_config_pb2, service_pb2  # type: ignore[import-untyped]

from ortolan.protocol.protobuf_messages import HEALTH_SERVICE, INFERENCE_SERVICE, POOL, message_class, service_methods


def _with_nested(descriptor: Any) -> Iterator[Any]:
    yield descriptor
    for nested in descriptor.nested_types:
        yield from _with_nested(nested)


FILES = (model_config_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR)
MESSAGES = {
    message.full_name: message
    for file in FILES
    for outermost in file.message_types_by_name.values()
    for message in _with_nested(outermost)
}
ENUMS = {
    enum.full_name: enum
    for enums in [*(file.enum_types_by_name.values() for file in FILES), *(m.enum_types for m in MESSAGES.values())]
    for enum in enums
}


def _fields(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    message = DescriptorProto()
    descriptor.CopyToProto(message)
    oneofs = [oneof.name for oneof in message.oneof_decl]
    return {
        field.name: (
            field.number,
            field.type,
            field.label,
            field.type_name,
            field.proto3_optional,
            oneofs[field.oneof_index] if field.HasField("oneof_index") else None,
        )
        for field in message.field
    }


def _values(descriptor: Any) -> dict[str, int]:
    enum = EnumDescriptorProto()
    descriptor.CopyToProto(enum)
    return {value.name: value.number for value in enum.value}


def _signature(descriptor: Any) -> tuple[str, str, bool, bool]:
    method = MethodDescriptorProto()
    descriptor.CopyToProto(method)
    return method.input_type, method.output_type, method.client_streaming, method.server_streaming


def test_the_client_has_definitions_to_compare_with() -> None:
    assert len(MESSAGES) > 120
    assert len(ENUMS) > 8


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_of_the_clients_message_is_the_same_in_ours(name: str) -> None:
    ours = _fields(POOL.FindMessageTypeByName(name))
    assert {field: ours.get(field) for field in _fields(MESSAGES[name])} == _fields(MESSAGES[name])


@pytest.mark.parametrize("name", ENUMS)
def test_every_value_of_the_clients_enum_is_the_same_in_ours(name: str) -> None:
    assert _values(ENUMS[name]).items() <= _values(POOL.FindEnumTypeByName(name)).items()


def test_every_method_of_the_clients_service_is_the_same_in_ours() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    ours = {method.name: _signature(method) for method in service_methods(INFERENCE_SERVICE)}
    assert {method.name: _signature(method) for method in theirs.methods} == ours


def test_the_health_service_is_the_standard_one() -> None:
    signatures = {method.name: _signature(method) for method in service_methods(HEALTH_SERVICE)}
    request, response = ".grpc.health.v1.HealthCheckRequest", ".grpc.health.v1.HealthCheckResponse"
    assert signatures == {"Check": (request, response, False, False), "Watch": (request, response, False, True)}
    assert message_class("grpc.health.v1.HealthCheckRequest")(service="s").SerializeToString() == b"\x0a\x01s"
    assert message_class("grpc.health.v1.HealthCheckResponse")(status=2).SerializeToString() == b"\x08\x02"
    assert _values(POOL.FindEnumTypeByName("grpc.health.v1.HealthCheckResponse.ServingStatus")) == {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    }
