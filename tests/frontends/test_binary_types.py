import pytest

from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.answer import Answer
from ortolan.frontends.rest.binary_types import SAGEMAKER, VERTEX_AI

NAME = "application/vnd.sagemaker-triton.binary+json"


@pytest.mark.parametrize(
    ("content_type", "length"),
    [
        (f"{NAME};json-header-size=12", "12"),
        (f'{NAME.upper()} ; charset=utf-8; JSON-Header-Size = "12" ', "12"),
        (f"{NAME};json-header-size=", ""),
        (f"{NAME};json-header-size=ten", "ten"),  # as the protocol's own header, for who reads it
        ("application/json", None),
        ("application/octet-stream", None),
        (f"{VERTEX_AI.name};json-header-size=12", None),
        ("", None),
    ],
)
def test_the_length_stands_in_the_type(content_type: str, length: str | None) -> None:
    assert SAGEMAKER.header_length(content_type) == length


@pytest.mark.parametrize("content_type", [NAME, f"{NAME};", f"{NAME};size=1"])
def test_without_a_length_it_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidArgument, match="must say how many bytes of the body are JSON"):
        SAGEMAKER.header_length(content_type)


def test_only_answers_with_binary_parts_get_the_type() -> None:
    binary = [(b"content-type", b"application/octet-stream"), (b"inference-header-content-length", b"7"), (b"x", b"y")]
    assert SAGEMAKER.told(Answer(200, binary, (b"",))).headers == [
        (b"content-type", f"{NAME};json-header-size=7".encode()),
        *binary[1:],
    ]
    plain = Answer(200, [(b"content-type", b"application/json")], (b"{}",))
    assert SAGEMAKER.told(plain) is plain
