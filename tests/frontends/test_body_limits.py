"""How much of what a request may carry, and how its refusal helps."""

import pytest

from ortolan.errors import BodyTooLarge, InvalidArgument
from ortolan.frontends.rest.body_limits import BodyLimit, BodyLimits, declared_bytes
from ortolan.frontends.rest.http_request import HttpRequest

LENGTH = b"inference-header-content-length"
LIMITS = BodyLimits(1 << 20, 1 << 16)


def asked(*headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest(headers, None)


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ([], LIMITS.json),
        ([(b"content-type", b"application/octet-stream")], LIMITS.json),
        ([(LENGTH, b"17")], LIMITS.binary),
        ([(LENGTH, b"0")], LIMITS.binary),
    ],
)
def test_an_inference_is_json_unless_it_says_how_much_of_it_is(
    headers: list[tuple[bytes, bytes]], limit: BodyLimit
) -> None:
    assert LIMITS.of_inference(asked(*headers)) is limit


def test_what_is_inferred_with_is_refused_as_triton_does_and_all_else_as_http_does() -> None:
    for limit, kind, flag in (
        (LIMITS.binary, InvalidArgument, "--http-max-input-size"),
        (LIMITS.json, InvalidArgument, "--http-max-json-size"),
        (LIMITS.document, BodyTooLarge, "--http-max-json-size"),
        (LIMITS.files, BodyTooLarge, "--http-max-input-size"),
    ):
        refusal = limit.refusal(limit.most_bytes + 1)
        assert type(refusal) is kind
        assert f"maximum allowed input size of {limit.most_bytes} bytes. Use {flag} to increase" in str(refusal)


def test_json_is_never_allowed_more_than_anything_and_the_flag_is_that_which_binds() -> None:
    limits = BodyLimits(1000, 1 << 16)
    for limit in (limits.binary, limits.json, limits.document, limits.files):
        assert (limit.most_bytes, limit.flag) == (1000, "--http-max-input-size")


LARGE = str(1 << 17).encode()


@pytest.mark.parametrize(
    ("length", "whole", "refused"),
    [
        (b"65536", b"1000000", False),
        (b"65537", b"1000000", True),
        (LARGE, b"1000000", True),
        (b"0" * 40 + LARGE, b"1000000", True),
        (LARGE, None, True),
        (b"9" * 30, None, True),
        (b"9" * 5000, None, True),
        # These are no lengths, or not of this body: who reads it says so.
        (LARGE, b"100", False),
        (b"9" * 30, b"1000000", False),
        (b"-99999999", b"1000000", False),
        ("99999999¹".encode("latin-1"), b"1000000", False),
        (b"many many", None, False),
        (b"0", b"1000000", False),
        (None, b"1000000", False),
    ],
)
def test_the_json_before_binary_data_has_the_limit_of_json(
    length: bytes | None, whole: bytes | None, refused: bool
) -> None:
    headers = [(LENGTH, length)] if length is not None else []
    headers += [(b"content-length", whole)] if whole is not None else []
    if refused:
        with pytest.raises(InvalidArgument, match=r"the JSON of a request of at least .* --http-max-json-size"):
            LIMITS.refuse_json_part(asked(*headers))
    else:
        LIMITS.refuse_json_part(asked(*headers))


@pytest.mark.parametrize(("value", "size"), [(b"7", 7), (b"x", None), (None, None)])
def test_a_length_is_known_where_it_is_declared(value: bytes | None, size: int | None) -> None:
    assert declared_bytes(asked(*([(b"content-length", value)] if value is not None else []))) == size
