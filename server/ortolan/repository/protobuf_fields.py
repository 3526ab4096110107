"""The fields of a serialized protobuf message, walked in the file, so that weights are skipped over, not read."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_VARINT, _EIGHT_BYTES, MESSAGE, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_VARINT: 0, _EIGHT_BYTES: 8, _FOUR_BYTES: 4}
# Fields are looked at in windows of the file: of a graph with many nodes each holds hundreds.
_WINDOW_BYTES = 16384
LONGEST_HEADER = 20
"""Bytes, for the number and the length of a field."""


class NotWalkable(ValueError):
    """The file is no ONNX protobuf: damaged, or of another format that ONNX Runtime also loads."""


class Field(NamedTuple):
    """One field of a message: a number, or the place of what has a length."""

    number: int
    wire_type: int
    value: int
    start: int
    end: int


def opened(model: Path | bytes) -> BinaryIO:
    return io.BytesIO(model) if isinstance(model, bytes) else model.open("rb")


def whole(file: BinaryIO) -> Field:
    return Field(0, MESSAGE, 0, 0, file.seek(0, io.SEEK_END))


def parts(file: BinaryIO, message: Field, *numbers: int) -> Iterator[Field]:
    """The fields of ``message`` that have one of the ``numbers``. The file may be moved while they are looked at."""
    position, end = message.start, message.end
    window, base, safe = b"", position, position
    while position < end:
        if position >= safe:
            window, base = _read(file, position, min(_WINDOW_BYTES, end - position)), position
            last = base + len(window)
            safe = last if last >= end else last - LONGEST_HEADER
        number, wire_type, value, start, after = header(window, position - base)
        position = base + after
        if position > end:
            raise NotWalkable("a field is longer than its message")
        if number in numbers:
            yield Field(number, wire_type, value, base + start, position)


def header(window: bytes, at: int) -> tuple[int, int, int, int, int]:
    """The field whose header begins at ``at`` in ``window``: its number, wire type and value, and where what it has
    starts and ends in the window. Raises NotWalkable.
    """
    short = window[at : at + 2]
    if len(short) == 2 and short[0] & 0x87 == MESSAGE and short[0] > 7 and short[1] < 0x80:
        # Nearly all fields begin so.
        return short[0] >> 3, MESSAGE, short[1], at + 2, at + 2 + short[1]
    key, start = _varint(window, at)
    number, wire_type = key >> 3, key & 7
    value = 0
    if wire_type == MESSAGE:
        value, start = _varint(window, start)
        size = value
    elif wire_type == _VARINT:
        value, start = _varint(window, start)
        size = 0
    else:
        size = _FIXED.get(wire_type, -1)
    if number == 0 or size < 0:
        raise NotWalkable("not the wire format of protobuf")
    return number, wire_type, value, start, start + size


def _varint(window: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends."""
    number = shift = 0
    for byte in window[at : at + 10]:
        at += 1
        if byte < 0x80:
            return (number | byte << shift) & (1 << 64) - 1, at
        number |= (byte & 0x7F) << shift
        shift += 7
    raise NotWalkable("not the wire format of protobuf")


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def text(file: BinaryIO, message: Field, number: int) -> bytes:
    """The first field ``number`` of ``message``; empty where it has none."""
    field = next(parts(file, message, number), None)
    return b"" if field is None else content(file, field)


def content(file: BinaryIO, field: Field) -> bytes:
    return _read(file, field.start, field.end - field.start)


def integers(file: BinaryIO, field: Field) -> list[int]:
    """The numbers of a repeated field, which are written one by one or packed together."""
    if field.wire_type == _VARINT:
        return [_signed(field.value)]
    numbers: list[int] = []
    packed, at = content(file, field), 0
    while at < len(packed):
        number, at = _varint(packed, at)
        numbers.append(_signed(number))
    return numbers


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
