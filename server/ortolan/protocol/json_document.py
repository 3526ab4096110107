"""JSON text from a client → Python values, strictly: what is not a document of numbers we can keep is refused.

orjson reads the text. Only for a text that it refuses and in which NaN or Infinity occurs does the standard library
read it again, because Triton and its clients write those tokens; everything else it reads to the same values.
"""

import json
import math
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import orjson

from ortolan.errors import InvalidArgument
from ortolan.protocol.json_fields import shown, wrong_type


class BrokenJson(InvalidArgument):
    """What was to be JSON text is none, so that it may be something else which the request does not name."""

    is_no_text = False
    """Whether it is no text at all."""


class NoText(BrokenJson):
    """Bytes that are no UTF-8, and do not look compressed."""

    is_no_text = True


MAX_DEPTH = 100

_GZIP = b"\x1f\x8b"
_GZIP_HINT = "; it begins as gzip data do: for these send the header Content-Encoding: gzip"

# Less than half of MAX_DEPTH, and some levels around: neither of two kinds of bracket may be deeper than this without a
# closer look.
_MAX_RARE_BYTES = 40
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
# Possessive, and content with a string that never ends, so that no text whatever makes it look twice at a byte.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")


def parse_object(text: bytes) -> Mapping[str, object]:
    """The JSON object in ``text``; the last of duplicate keys wins. Integers beyond 64 bits become floats.

    Raises InvalidArgument, saying where, for anything else: other JSON values, broken JSON or UTF-8, nesting deeper
    than ``MAX_DEPTH``, numbers too large for a float, lone surrogates.
    """
    if not text:
        raise InvalidArgument("the request has no JSON: expected an object with 'inputs', got an empty body")
    refuse_deep_nesting(text)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        document = _parse_with_non_finite(text, error)
    if not isinstance(document, dict):
        raise wrong_type("the request's JSON", "an object", document)
    return document


def refuse_deep_nesting(text: bytes, around: int = 0) -> None:
    """Raises InvalidArgument when arrays and objects stand more than ``MAX_DEPTH`` deep in ``text``.

    ``around``: in how many of them ``text`` stands itself; less than half of the most.
    """
    if not _occurs_often(text, b"[") and not _occurs_often(text, b"{"):
        return
    if _steps(text).cumsum(dtype=np.int32).max(initial=0) + around > MAX_DEPTH:
        raise InvalidArgument(f"the request's JSON is nested too deep: at most {MAX_DEPTH} levels are accepted")


def depth_behind(text: bytes) -> int:
    """In how many arrays and objects stands what follows ``text``, the beginning of a document."""
    return int(_steps(text).sum(dtype=np.int32))


def _steps(text: bytes) -> npt.NDArray[np.int8]:
    """1 for each bracket that opens, -1 for each that closes."""
    brackets = np.frombuffer(_STRING.sub(b"", text).translate(None, _NOT_BRACKETS), np.uint8)
    # Of these four characters "]" and "}" are the ones with bit 2 set.
    return np.where(brackets & 0x04, np.int8(-1), np.int8(1))


def may_hold_booleans(text: bytes) -> bool:
    """False when neither ``true`` nor ``false`` stands in ``text``; True says nothing.

    Numbers hold neither "u" nor "l", and looking for one byte is some fifty times faster than looking for a word.
    """
    return _may_follow(text, b"u", b"tr") or _may_follow(text, b"l", b"fa")


def _occurs_often(text: bytes, byte: bytes) -> bool:
    # find() comes to a byte that is rare as fast as memory is read; count() looks at one byte after the other.
    at = -1
    for _ in range(_MAX_RARE_BYTES + 1):
        at = text.find(byte, at + 1)
        if at < 0:
            return False
    return True


def _may_follow(text: bytes, byte: bytes, before: bytes) -> bool:
    at = -1
    for _ in range(_MAX_RARE_BYTES):
        at = text.find(byte, at + 1)
        if at < 0:
            return False
        if text.endswith(before, 0, at):
            return True
    return True


def _parse_with_non_finite(text: bytes, refusal: orjson.JSONDecodeError) -> object:
    try:
        characters = text.decode()
    except UnicodeDecodeError as error:
        message = f"the request's JSON is not valid UTF-8 at byte {error.start}"
        if text.startswith(_GZIP):
            raise BrokenJson(f"{message}{_GZIP_HINT}") from error
        raise NoText(message) from error
    if "NaN" not in characters and "Infinity" not in characters:
        raise _broken(refusal) from refusal
    try:
        document: object = json.loads(characters, parse_int=_integer, parse_float=_finite)
        # The standard library lets lone surrogates pass, which no later step could write out again.
        orjson.dumps(document)
    except json.JSONDecodeError as error:
        raise _broken(error) from error
    except TypeError as error:
        raise InvalidArgument("the request's JSON has a lone surrogate in a string, which is no character") from error
    return document


def _broken(error: json.JSONDecodeError) -> BrokenJson:
    return BrokenJson(f"failed to parse the request's JSON: {error}")


def _integer(digits: str) -> int | float:
    # int() of thousands of digits is slow or refused; the longest 64-bit integer has 20 characters.
    if len(digits) <= 20 and _INT64_MIN <= (value := int(digits)) <= _UINT64_MAX:
        return value
    return _finite(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InvalidArgument(f"the request's JSON has a number too large for a float: {shown(digits)}")
    return value
