import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ortolan.errors import InvalidArgument
from ortolan.protocol.protobuf_framing import MAX_FIELDS
from ortolan.protocol.protobuf_messages import (
    HEALTH_SERVICE,
    INFERENCE_SERVICE,
    POOL,
    ModelInferRequest,
    message_class,
    parse,
    service_methods,
)

COMPILE_SCRIPT = Path(__file__).resolve().parents[2] / "protos" / "compile.py"


@pytest.fixture(scope="module")
def compile_script() -> ModuleType:
    pytest.importorskip("grpc_tools", reason="compiling protos/ needs grpcio-tools")
    spec = importlib.util.spec_from_file_location("ortolan_protos_compile", COMPILE_SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_descriptor_set_is_what_the_proto_files_say(compile_script: ModuleType) -> None:
    assert compile_script.DESCRIPTOR_SET.read_bytes() == compile_script.compiled_descriptor_set()
    assert compile_script.main(["--check"]) == 0


def test_the_descriptor_set_is_compiled_from_every_proto_file(compile_script: ModuleType) -> None:
    assert sorted(compile_script.SOURCES) == sorted(path.name for path in COMPILE_SCRIPT.parent.glob("*.proto"))


def test_a_message_class_writes_and_reads_its_messages() -> None:
    request = ModelInferRequest(model_name="digits", id="1")
    assert parse(ModelInferRequest, request.SerializeToString()) == request


def test_a_nested_message_is_found_by_its_full_name() -> None:
    nested = message_class("inference.ModelMetadataResponse.TensorMetadata")
    assert nested(name="x", datatype="FP32", shape=[-1, 3]).shape == [-1, 3]


def test_an_unknown_message_or_service_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        message_class("inference.NoSuchMessage")
    with pytest.raises(KeyError):
        service_methods("inference.NoSuchService")


def test_a_services_methods_tell_their_messages() -> None:
    methods = {method.name: method for method in service_methods(INFERENCE_SERVICE)}
    assert len(methods) == 20
    assert methods["ModelInfer"].input_type.full_name == "inference.ModelInferRequest"
    assert methods["ModelInfer"].output_type.full_name == "inference.ModelInferResponse"
    assert [method.name for method in service_methods(HEALTH_SERVICE)] == ["Check", "Watch"]


def test_the_pool_finds_services_by_file_as_reflection_asks() -> None:
    file = POOL.FindFileContainingSymbol(INFERENCE_SERVICE)
    assert [dependency.name for dependency in file.dependencies] == ["model_config.proto"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a", "a tag without its length"),
        (b"\x0a\x05ab", "a string shorter than its length"),
        (b"\x0a\x02\xff\xfe", "a string that is not UTF-8"),
        (b"\x00\x00", "field number 0"),
        (b"\x7b" * 10_000, "groups that nest too deeply and never end"),
        (b"\x7b" * 10_000 + b"\x7c" * 10_000, "groups that nest too deeply"),
        (b"\xff" * 20, "a varint without end"),
    ],
)
def test_malformed_bytes_are_an_invalid_argument(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=r"not a valid inference\.ModelInferRequest message"):
        parse(ModelInferRequest, data)


def test_a_message_of_too_many_fields_is_not_read() -> None:
    data = ModelInferRequest(outputs=[{"name": "longer"}] * (MAX_FIELDS + 1)).SerializeToString()
    with pytest.raises(InvalidArgument, match="more than the 16384 fields beside each other"):
        parse(ModelInferRequest, data)


def test_unknown_fields_are_tolerated() -> None:
    assert parse(ModelInferRequest, b"\x0a\x01m" + b"\x80\x7d\x05").model_name == "m"


@pytest.mark.parametrize(
    "order",
    [
        ("ortolan.protocol.protobuf_codec", "tritonclient.grpc"),
        ("tritonclient.grpc", "ortolan.protocol.protobuf_codec"),
    ],
)
def test_tritonclient_can_be_imported_in_the_same_process(order: tuple[str, str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = (
        f"import {order[0]}, {order[1]}; from tritonclient.grpc import service_pb2; service_pb2.ModelInferRequest()"
    )
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
