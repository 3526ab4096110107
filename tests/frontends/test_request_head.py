"""The header fields of a gRPC call."""

import pytest

from ortolan.frontends.access.operations import OPERATIONS
from ortolan.frontends.grpc.methods import MethodName, UnaryRpc
from ortolan.frontends.grpc.request_head import Refusal, RequestHead, read_head
from ortolan.http2.header_blocks import HeaderList

FIELDS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/s/M",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


async def _nothing(data: bytes, call: object) -> bytes:
    return b""


RPC = UnaryRpc(MethodName("s", "M", OPERATIONS["ModelInfer"]), _nothing)


def read(**changes: bytes | None) -> RequestHead | Refusal:
    fields = FIELDS | {name.replace("_", "-").encode(): value for name, value in changes.items()}
    fields |= {b":" + name[1:]: fields.pop(name) for name in [*fields] if name.startswith(b"-")}
    kept = tuple((name, value) for name, value in fields.items() if value is not None)
    return read_head(HeaderList(kept, too_large=False), {RPC.name.path: RPC})


def test_a_call_has_its_method_and_nothing_else() -> None:
    assert read() == RequestHead(RPC, accepts=("",), path=b"/s/M")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"0S", 0)],
)
def test_timeouts_are_read_in_every_unit(text: bytes, seconds: float) -> None:
    head = read(grpc_timeout=text)
    assert isinstance(head, RequestHead)
    assert head.timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("kind", [b"", b"+proto", b";charset=utf-8", b"+proto; charset=utf-8", b" ; a=b"])
def test_messages_in_protobuf_have_several_names(kind: bytes) -> None:
    assert read(content_type=b"application/grpc" + kind) == read()


@pytest.mark.parametrize("text", [b"", b"5", b"S", b"-1S", b"1.5S", b"123456789S", b"1s", b"1S1S", b"\xd9\xa1S"])
def test_a_timeout_that_is_none_is_refused(text: bytes) -> None:
    refused = read(grpc_timeout=text)
    assert isinstance(refused, Refusal)
    assert (refused.http_status, "grpc-timeout" in refused.message) == (200, True)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"_method": b"GET"}, 405),
        ({"content_type": b"application/json"}, 415),
        ({"content_type": None}, 415),
        ({"content_type": b"application/grpc-web"}, 415),
        ({"content_type": b"application/grpc+json"}, 415),
        ({"content_type": b"application/grpc+protozoon"}, 415),
    ],
)
def test_what_is_no_grpc_call_is_refused_as_http_says(changes: dict[str, bytes], status: int) -> None:
    refused = read(**changes)
    assert isinstance(refused, Refusal)
    assert refused.http_status == status


def test_metadata_are_the_fields_that_are_text_and_of_the_caller() -> None:
    head = read(x_key=b"v", authorization=b"Bearer t", trace_bin=b"AAAA", grpc_encoding=b"gzip", user_agent=b"me")
    assert isinstance(head, RequestHead)
    assert head.metadata == (("x-key", "v"), ("authorization", "Bearer t"), ("user-agent", "me"))
    assert head.encoding == "gzip"


def test_a_method_that_is_not_there_is_none() -> None:
    head = read(_path=b"/s/Other")
    assert isinstance(head, RequestHead)
    assert head.rpc is None


@pytest.mark.parametrize("text", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_every_form_of_grpcs_content_type_is_taken(text: bytes) -> None:
    assert isinstance(read(content_type=text), RequestHead)
