"""What the hot route reads off ASGI: the path, the headers, the body within its limit."""

from collections.abc import Sequence
from typing import Any

import pytest

from ortolan.errors import Cancelled, InvalidArgument
from ortolan.frontends.rest.asgi_request import AsgiRequest
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.http_request import HttpRequest
from ortolan.frontends.rest.inference import inference_target
from ortolan.frontends.rest.request_body import read_body

LIMIT = 10


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/models/m/infer", ("m", "")),
        ("/v2/models/m/versions/3/infer", ("m", "3")),
        ("/v2/models/infer/infer", ("infer", "")),
        ("/v2/models/versions/versions/versions/infer", ("versions", "versions")),
        ("/v2/models/a b\n\0é/infer", ("a b\n\0é", "")),
        ("/v2/models/m/infer/", None),
        ("/v2/models/m/infer\n", None),
        ("/v2/models//infer", None),
        ("/v2/models/m/versions//infer", None),
        ("/v2/models/a/b/infer", None),
        ("/v2/models/m/versions/1/2/infer", None),
        ("/v1/models/m/infer", None),
        ("/infer", None),
        ("x/v2/models/m/infer", None),
        ("/v2/models/m", None),
    ],
)
def test_only_the_two_paths_of_inference_are_its(path: str, target: tuple[str, str] | None) -> None:
    assert inference_target(path) == target


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], None),
        ([(b"other", b"1")], None),
        ([(b"x", b"1")], "1"),
        ([(b"x", b"1"), (b"x", b"2")], "1"),
        ([(b"x", b"")], ""),
        ([(b"x", b"\xe9\xff")], "éÿ"),
    ],
)
def test_a_header_is_its_first_value(headers: list[tuple[bytes, bytes]], value: str | None) -> None:
    assert HttpRequest(headers, None).header(b"x") == value


async def read(chunks: Sequence[bytes | None], declared: str | None = None) -> tuple[bytes, int]:
    """The body of these chunks, where None is a hang-up, and how many were read before it was known."""
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        chunk = chunks[taken]
        taken += 1
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": taken < len(chunks)}

    headers = [] if declared is None else [(b"content-length", declared.encode())]
    return bytes(await read_body(AsgiRequest({"headers": headers}, receive), BodyLimit(LIMIT))), taken


@pytest.mark.parametrize(
    ("chunks", "declared", "body"),
    [
        ([b""], None, b""),
        ([b"whole"], "5", b"whole"),
        ([b"exactly 10"], "10", b"exactly 10"),
        ([b"in ", b"", b"parts"], None, b"in parts"),
        ([b"exactly", b" 10"], None, b"exactly 10"),
    ],
)
async def test_a_body_within_the_limit_is_read(chunks: list[bytes], declared: str | None, body: bytes) -> None:
    assert await read(chunks, declared) == (body, len(chunks))


@pytest.mark.parametrize(
    ("chunks", "declared"),
    [
        ([b"x" * 11], None),
        ([b"x" * 11], "11"),
        ([b"x" * 6, b"y" * 5, b"never read"], None),
        ([b"x"], "99999999999999999999999"),
    ],
)
async def test_a_body_over_the_limit_names_the_flag(chunks: list[bytes], declared: str | None) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await read(chunks, declared)
    assert "exceeds the maximum allowed input size of 10 bytes" in str(refused.value)
    assert "--http-max-input-size" in str(refused.value)


async def test_a_declared_size_over_the_limit_is_refused_before_anything_is_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing should be read")

    with pytest.raises(InvalidArgument):
        await read_body(AsgiRequest({"headers": [(b"content-length", b"11")]}, receive), BodyLimit(LIMIT))


@pytest.mark.parametrize("chunks", [[None], [b"half", None]])
async def test_a_client_that_goes_away_cancels_its_request(chunks: list[bytes | None]) -> None:
    with pytest.raises(Cancelled):
        await read(chunks)
