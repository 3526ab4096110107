"""BYTES elements ⇄ the ``str`` elements that ONNX Runtime's Python binding takes. Any bytes pass. Pure."""

import codecs
import re
from typing import Any

import numpy as np

from ortolan.inference.datatypes import Array

# Each byte b that is not UTF-8 travels through the runtime as the private character U+10FF00 + b; so do the bytes of
# these characters themselves where a client sends them, or they would come back as one byte.
_FIRST_PRIVATE = 0x10FF00
_PRIVATE_SENT = re.compile(rb"(\xf4\x8f[\xbc-\xbf][\x80-\xbf])")
_PRIVATE = re.compile("[\U0010ff00-\U0010ffff]")


def texts_of(array: Array) -> Array:
    """``bytes`` elements as the ``str`` that the runtime takes; any bytes pass."""
    texts = np.empty(array.size, dtype=object)
    texts[:] = [_plain_text(element) for element in array.reshape(-1).tolist()]
    return texts.reshape(array.shape)


def _plain_text(element: bytes) -> str:
    if b"\xf4\x8f" not in element:
        return element.decode("utf-8", "ortolan-private")
    # Every second piece is one of the private characters.
    pieces = _PRIVATE_SENT.split(element)
    return "".join(
        _private(piece) if index % 2 else piece.decode("utf-8", "ortolan-private") for index, piece in enumerate(pieces)
    )


def bytes_of(array: Any) -> Array:
    """The runtime's ``str`` elements as ``bytes``, the private characters back as the bytes that they stood for."""
    array = np.asarray(array, dtype=object)
    elements = np.empty(array.size, dtype=object)
    elements[:] = [_plain_bytes(text) for text in array.reshape(-1).tolist()]
    return elements.reshape(array.shape)


def _plain_bytes(text: str) -> bytes:
    if not _PRIVATE.search(text):
        return text.encode("utf-8")
    pieces = _PRIVATE.split(text)
    privates = _PRIVATE.findall(text)
    out = bytearray(pieces[0].encode("utf-8"))
    for private, piece in zip(privates, pieces[1:], strict=True):
        out.append(ord(private) - _FIRST_PRIVATE)
        out += piece.encode("utf-8")
    return bytes(out)


def _decode_private(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _private(error.object[error.start : error.end]), error.end


def _private(data: bytes) -> str:
    return "".join(chr(_FIRST_PRIVATE + byte) for byte in data)


codecs.register_error("ortolan-private", _decode_private)
