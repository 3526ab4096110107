"""Bad gRPC messages, row by row: a status with its reason, and a server that answers the next.

The rows are numbered as in our list of bad input; 86 to 93 are those of gRPC's messages.
"""

import re
import struct
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from callers import LONGEST_S
from conformance import http2
from conformance.memory import peak_growth_bytes
from conformance.served import Served
from conformance.wire import SERVICE, Grpc

from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.grpcio_server import GrpcioServer
from ortolan.frontends.grpc.http2_server import Http2Server
from ortolan.frontends.grpc.methods import MethodName, Methods, StreamRpc, UnaryRpc
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.status import INTERNAL_MESSAGE
from ortolan.protocol import protobuf_messages as messages

MIB = 1 << 20
LIMIT = MIB
INFER_PATH = f"/{SERVICE}/ModelInfer"
ROW = struct.pack("<4f", 1, 2, 3, 4)
X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4]}


@pytest.fixture
def grpc_(bad_grpc_input: Served) -> Iterator[Grpc]:
    grpc_ = Grpc(bad_grpc_input.server)
    yield grpc_
    grpc_.close()


def asking(*tensors: dict[str, Any], raw: tuple[bytes, ...] = (ROW,), **fields: Any) -> bytes:
    """A request to ``batched``, a good one without arguments."""
    request = messages.ModelInferRequest(model_name="batched", inputs=tensors or (X,), raw_input_contents=raw, **fields)
    return bytes(request.SerializeToString())


def assert_answers(grpc_: Grpc) -> None:
    response = messages.ModelInferResponse.FromString(grpc_.send("ModelInfer", asking()))
    assert [*response.raw_output_contents] == [ROW]


def texts(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


TYPED = {**X, "contents": {"fp32_contents": [1, 2, 3, 4]}}
MANY = [{"name": f"x{index}", "datatype": "FP32", "shape": [0], "contents": {}} for index in range(5000)]
REFUSED = [
    (88, "no message at all", b"\xff\xff\xff", "not a valid inference.ModelInferRequest"),
    (88, "a field that ends early", b"\x0a\x7fshort", "not a valid inference.ModelInferRequest"),
    (88, "a name that is not UTF-8", b"\x0a\x02\xff\xfe", "not a valid inference.ModelInferRequest"),
    (88, "a tensor that is no message", b"\x0a\x07batched\x2a\x02\xff\xff", "not a valid inference.ModelInferRequest"),
    (88, "a message that is cut off", asking()[:-3], "not a valid inference.ModelInferRequest"),
    (92, "unknown groups, 10,000 deep", asking() + b"\xa3\x01" * 10_000, "not a valid inference.ModelInferRequest"),
    (92, "unknown groups, closed", b"\xa3\x01" * 1000 + b"\xa4\x01" * 1000, "not a valid inference.ModelInferRequest"),
    (
        93,
        "less raw data than inputs",
        asking(X, {**X, "name": "z"}),
        "Expected 2 raw_input_contents, one for each input",
    ),
    (
        93,
        "more raw data than inputs",
        asking(raw=(ROW, ROW)),
        "Expected 1 raw_input_contents, one for each input",
    ),
    (93, "both forms", asking(TYPED), "contents field must not be specified when using raw_input_contents for 'x'"),
    (93, "neither form", asking(raw=()), "unable to find data for input tensor 'x' for model 'batched' in request"),
    (93, "too few bytes", asking(raw=(ROW[:-1],)), "Expected 16, got 15"),
    (93, "too many bytes", asking(raw=(ROW + b"\0",)), "Expected 16, got 17"),
    (42, "2^64 elements and more", asking({**X, "shape": [2**4, 2**60 + 2]}), "more than memory can hold"),
    (43, "2^64 bytes and more", asking({**X, "shape": [2**2, 2**60 + 2]}), "more than memory can hold"),
    (44, "a negative dimension", asking({**X, "shape": [-1, -4]}), "sizes must not be negative"),
    (44, "1,000 dimensions", asking({**X, "shape": [1] * 1000}), "has 1000 dimensions. Expected at most 32"),
    (
        45,
        "fewer typed elements",
        asking({**X, "contents": {"fp32_contents": [1]}}, raw=()),
        "Expected 4 in fp32_contents",
    ),
    (
        46,
        "a length past the end",
        asking({**X, "datatype": "BYTES", "shape": [1]}, raw=(b"\xff\xff\xff\xffab",)),
        "incomplete",
    ),
    (
        47,
        "too many texts",
        asking({**X, "datatype": "BYTES", "shape": [1]}, raw=(texts(b"", b""),)),
        "unexpected number",
    ),
    (49, "an unknown input", asking({**X, "name": "nope"}), "unexpected inference input 'nope' for model 'batched'"),
    (49, "an input twice", asking(X, X, raw=(ROW, ROW)), "input 'x' already exists in request"),
    (50, "an output twice", asking(outputs=[{"name": "y"}] * 2), "output 'y' already exists in request"),
    (51, "many outputs", asking(outputs=[{"name": f"y{index}"} for index in range(5000)]), "at most 4096 are accepted"),
    (51, "many inputs", asking(*MANY, raw=()), "at most 4096 are accepted"),
    (52, "a datatype that there is not", asking({**X, "datatype": "FLOAT"}), "unknown datatype 'FLOAT'"),
    (53, "no rows", asking({**X, "shape": [0, 4]}, raw=(b"",)), "input 'x' has no rows"),
    (57, "an id of a million characters", asking(id="x" * 1_000_000), "id has 1000000 characters, at most 1024"),
    (
        57,
        "an id with line ends",
        asking(X, X, raw=(ROW, ROW), id="a\r\nforged\x1b[2J"),
        r"[request id: a\r\nforged\x1b[2J] ",
    ),
]


@pytest.mark.parametrize(("row", "what", "data", "said"), REFUSED, ids=[f"{row}: {what}" for row, what, *_ in REFUSED])
def test_a_bad_message_is_an_invalid_argument(grpc_: Grpc, row: int, what: str, data: bytes, said: str) -> None:
    code, details = grpc_.refusal("ModelInfer", data)
    assert (code, said in details) == ("INVALID_ARGUMENT", True), details
    assert not re.search(r"Traceback|\.py\b|\.onnx|/tmp|site-packages", details)
    # A stream tells it in the response, and goes on.
    refused, answered = grpc_.stream(data, asking())
    assert refused.error_message[:4096] == details
    assert [*answered.infer_response.raw_output_contents] == [ROW]
    assert_answers(grpc_)


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x08\x01\x2a\x00", b"\x7b\x2a\x00\x7c"])
def test_row_51_half_a_million_tensors_of_two_bytes_take_no_memory(
    bad_grpc_input: Served, grpc_: Grpc, field: bytes
) -> None:
    """Parsed, each of them would take 300 bytes."""
    data = asking() + field * ((LIMIT - 100) // len(field))

    def send() -> None:
        code, details = grpc_.refusal("ModelInfer", data)
        assert (code, "at most 4096 inputs and as many outputs are accepted" in details) == ("INVALID_ARGUMENT", True)
        (streamed,) = grpc_.stream(data)
        assert streamed.error_message == details

    assert peak_growth_bytes(bad_grpc_input.server, send) < 16 * LIMIT
    assert_answers(grpc_)


@pytest.mark.parametrize("method", sorted(method.name for method in messages.service_methods(SERVICE)))
def test_row_88_no_method_takes_bytes_that_are_no_message(grpc_: Grpc, method: str) -> None:
    empty = method in ("ServerLive", "ServerReady", "ServerMetadata")
    if method != "ModelStreamInfer" and not empty:
        code, details = grpc_.refusal(method, b"\xff\xff\xff")
        assert (code, f"not a valid inference.{method}Request" in details) == ("INVALID_ARGUMENT", True), details
    assert_answers(grpc_)


def test_row_86_a_message_over_the_limit_is_too_large(grpc_: Grpc) -> None:
    code, details = grpc_.refusal("ModelInfer", bytes(LIMIT + 1))
    assert code == "RESOURCE_EXHAUSTED"
    assert {str(LIMIT), str(LIMIT + 1)} <= set(re.findall(r"\d+", details)), details
    assert_answers(grpc_)


def test_row_87_a_bomb_takes_no_more_memory_than_the_limit(bad_grpc_input: Served, grpc_: Grpc) -> None:
    """As large a bomb as fits the window that a server opens by itself: 60 MB in 60 kB."""
    bomb = zlib.compress(bytes(60 * MIB), 9, wbits=31)
    assert len(bomb) < 65_000

    def explode() -> None:
        with http2.Http2(bad_grpc_input.server.grpc_port) as connection:
            connection.send(http2.call_headers(1, INFER_PATH, grpc_encoding="gzip"))
            connection.send(http2.data_frames(1, http2.message(bomb, compressed=True)))
            ended = next(frame for frame in connection.frames() if frame[:2] == (http2.HEADERS, 5))
        assert b"grpc-status\x018" in ended[3], "8 is RESOURCE_EXHAUSTED"

    assert peak_growth_bytes(bad_grpc_input.server, explode) < 16 * LIMIT
    assert_answers(grpc_)


@pytest.mark.parametrize("transport", [Http2Server, GrpcioServer])
async def test_row_89_a_fault_of_ours_is_internal_and_tells_nothing(
    transport: type[Http2Server | GrpcioServer], caplog: pytest.LogCaptureFixture
) -> None:
    """No request is known to cause one, so this is a server with a method that has one."""

    async def faulty(data: bytes, call: Call) -> bytes:
        raise RuntimeError("secret: /srv/models")

    async def faulty_stream(requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        raise RuntimeError("secret: /srv/models")
        yield b""

    options = GrpcOptions(max_message_bytes=LIMIT)
    rpcs = (
        UnaryRpc(MethodName(SERVICE, "ModelInfer", OPERATIONS["ModelInfer"]), faulty),
        StreamRpc(MethodName(SERVICE, "ModelStreamInfer", OPERATIONS["ModelStreamInfer"]), faulty_stream),
    )
    server = transport(Methods(rpcs, options, lambda: None), "127.0.0.1", 0, options)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await channel.unary_unary(INFER_PATH)(b"")
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            await channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([b""])).read()
    await server.stop(0)
    for ended in (unary, streamed):
        assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert caplog.text.count("RuntimeError: secret") == 2


@pytest.mark.parametrize(
    ("method", "service"),
    [("Nope", SERVICE), ("ModelInfer", "inference.Other"), ("No", "grpc.health.v1.Health"), ("", SERVICE)],
)
def test_row_90_a_method_that_is_not_there_is_unimplemented(grpc_: Grpc, method: str, service: str) -> None:
    assert grpc_.refusal(method, asking(), service)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("size", [17_000, 20_000, 60_000])
def test_row_91_metadata_over_16_kib_are_too_large(grpc_: Grpc, size: int) -> None:
    call = grpc_.channel.unary_unary(INFER_PATH)
    with pytest.raises(grpc.RpcError) as refused:
        call(asking(), metadata=(("mine", "x" * size),), timeout=LONGEST_S)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for _ in range(20):
        call(asking(), metadata=(("mine", "x" * 15_000),), timeout=LONGEST_S)


@pytest.mark.parametrize("key", ["sequence_id", "triton_x"])
def test_row_55_metadata_cannot_become_parameters_with_a_meaning(grpc_: Grpc, key: str) -> None:
    call = grpc_.channel.unary_unary(INFER_PATH)
    with pytest.raises(grpc.RpcError, match=f"the header '{key}' cannot become a parameter"):
        call(asking(), metadata=((key, "7"),), timeout=LONGEST_S)
    call(asking(), metadata=(("forwarded", "7"),), timeout=LONGEST_S)


def test_every_row_has_a_test() -> None:
    own = {int(row) for row in re.findall(r"test_row_(\d+)", " ".join(globals()))}
    assert {row for row, *_ in REFUSED} | own >= set(range(86, 94))
