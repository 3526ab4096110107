"""The fields of a serialized protobuf message, walked in the file, so that weights are skipped over, not read."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5


class NotWalkable(ValueError):
    """The file is no ONNX protobuf: damaged, or of another format that ONNX Runtime also loads."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: a number, or the place of what has a length."""

    number: int
    wire_type: int
    value: int
    start: int
    end: int


def opened(model: Path | bytes) -> BinaryIO:
    return io.BytesIO(model) if isinstance(model, bytes) else model.open("rb")


def whole(file: BinaryIO) -> Field:
    return Field(0, _MESSAGE, 0, 0, file.seek(0, io.SEEK_END))


def parts(file: BinaryIO, message: Field, *numbers: int) -> Iterator[Field]:
    """The fields of ``message`` that have one of the ``numbers``. The file may be moved while they are looked at."""
    position = message.start
    while position < message.end:
        file.seek(position)
        field = _field(file)
        position = field.end
        if position > message.end:
            raise NotWalkable("a field is longer than its message")
        if field.number in numbers:
            yield field


def _field(file: BinaryIO) -> Field:
    key = _varint(file)
    number, wire_type = key >> 3, key & 7
    value = _varint(file) if wire_type in (_VARINT, _MESSAGE) else 0
    start = file.tell()
    lengths = {_VARINT: 0, _EIGHT_BYTES: 8, _MESSAGE: value, _FOUR_BYTES: 4}
    if number == 0 or wire_type not in lengths:
        raise NotWalkable("not the wire format of protobuf")
    return Field(number, wire_type, value, start, start + lengths[wire_type])


def _varint(file: BinaryIO) -> int:
    number = shift = 0
    while shift < 70:
        byte = file.read(1)
        if not byte:
            break
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number & (1 << 64) - 1
        shift += 7
    raise NotWalkable("not the wire format of protobuf")


def text(file: BinaryIO, message: Field, number: int) -> bytes:
    """The first field ``number`` of ``message``; empty where it has none."""
    field = next(parts(file, message, number), None)
    return b"" if field is None else content(file, field)


def content(file: BinaryIO, field: Field) -> bytes:
    file.seek(field.start)
    return file.read(field.end - field.start)


def integers(file: BinaryIO, field: Field) -> list[int]:
    """The numbers of a repeated field, which are written one by one or packed together."""
    if field.wire_type == _VARINT:
        return [_signed(field.value)]
    numbers: list[int] = []
    file.seek(field.start)
    while file.tell() < field.end:
        numbers.append(_signed(_varint(file)))
    return numbers


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
