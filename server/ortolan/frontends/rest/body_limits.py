"""How large a request's body may be, by what it holds, and what is said of one that is larger."""

from dataclasses import dataclass
from typing import Protocol

from ortolan.errors import BodyTooLarge, InvalidArgument

_BINARY_FLAG = "--http-max-input-size"
_JSON_FLAG = "--http-max-json-size"
_BINARY_ADVICE = ", or send large tensors as binary data, to a path that ends in /infer"
# Of a length in more of them it is enough to know that.
_MOST_DIGITS = 20


class Headed(Protocol):
    """What has headers."""

    def header(self, name: bytes) -> str | None:
        """The value of the header ``name`` (lower case), or None."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """``kind`` is what a larger body is refused as; ``flag`` raises the limit, ``advice`` says what else helps."""

    most_bytes: int
    flag: str = _BINARY_FLAG
    kind: type[InvalidArgument] = InvalidArgument
    advice: str = ""

    def refusal(self, size_bytes: int, what: str = "request") -> InvalidArgument:
        """That of a body of at least ``size_bytes``: Triton's words, naming limit and flag."""
        return self.kind(
            f"{what} of at least {size_bytes} bytes exceeds the maximum allowed input size of {self.most_bytes} bytes. "
            f"Use {self.flag} to increase the limit{self.advice}."
        )


class BodyLimits:
    """What the operator allows. JSON is given less, since it takes up to 15 times its size while it is read.

    A body that is too large is refused with Triton's status where it was to be inferred with, elsewhere with HTTP's.
    """

    def __init__(self, max_body_bytes: int, max_json_bytes: int) -> None:
        json_bytes, flag, advice = max_json_bytes, _JSON_FLAG, _BINARY_ADVICE
        if max_body_bytes <= max_json_bytes:
            json_bytes, flag, advice = max_body_bytes, _BINARY_FLAG, ""
        self.binary = BodyLimit(max_body_bytes)
        """Tensors, with or without a description in JSON before them."""
        self.json = BodyLimit(json_bytes, flag, advice=advice)
        """An inference that is all JSON, and the JSON of another."""
        self.document = BodyLimit(json_bytes, flag, BodyTooLarge)
        """What other routes read."""
        self._json_digits = len(str(json_bytes))
        self.files = BodyLimit(max_body_bytes, kind=BodyTooLarge)
        """Files of a model as base64 text: JSON whose values are few."""

    def of_inference(self, asked: Headed) -> BodyLimit:
        """That of the whole body of a request to ``…/infer``."""
        return self.json if asked.header(b"inference-header-content-length") is None else self.binary

    def refuse_json_part(self, asked: Headed) -> None:
        """Raises InvalidArgument where the JSON of a body is too large, by the header that says how long it is.

        A length that is none, or more than the whole body's, is left to who reads that.
        """
        length = asked.header(b"inference-header-content-length")
        if length is None or len(length) < self._json_digits or not (length.isascii() and length.isdecimal()):
            return
        size_bytes = int(length.lstrip("0")[:_MOST_DIGITS] or "0")
        whole_bytes = declared_bytes(asked)
        if size_bytes > self.json.most_bytes and (whole_bytes is None or size_bytes <= whole_bytes):
            raise self.json.refusal(size_bytes, "the JSON of a request")


def declared_bytes(asked: Headed) -> int | None:
    """How long the body is to be; None where that will be seen at its end."""
    declared = asked.header(b"content-length")
    return int(declared) if declared is not None and declared.isdecimal() else None
