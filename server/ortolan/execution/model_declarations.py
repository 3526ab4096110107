"""What a model's file declares and ONNX Runtime does not tell: ranks, shapes inside sequences, the classes of maps.

The runtime reports a scalar and a tensor of any rank alike. The file is walked field by field, so that weights are
skipped over, not read. The numbers of the fields are those of ONNX's ``onnx.proto``.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Shape = tuple[int, ...]

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 11, 12
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TYPE_SEQUENCE, _TYPE_MAP, _TYPE_OPTIONAL = 1, 4, 5, 9
# A tensor has its shape, a sequence or an optional its element type, and a map its value type below this number.
_TYPE_INNER = {_TYPE_TENSOR: 2, _TYPE_SEQUENCE: 1, _TYPE_MAP: 2, _TYPE_OPTIONAL: 1}
_SHAPE_SIZE, _SIZE_VALUE = 1, 1
_NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGERS, _ATTRIBUTE_STRINGS = 1, 8, 9
_CLASSES = (b"classlabels_int64s", b"classlabels_strings")


class NotWalkable(ValueError):
    """The file is no ONNX protobuf: damaged, or of another format that ONNX Runtime also loads."""


def declared_shapes(model: Path | bytes) -> Mapping[str, Shape | None]:
    """For each input and output of the graph the shape of its tensor, or of the tensors in its sequence or optional.

    None where even the rank is left open; a size that is left open is -1. Raises NotWalkable.
    """
    with _opened(model) as file:
        return {
            _text(file, value, _VALUE_NAME).decode("utf-8", "replace"): _declared_shape(file, value)
            for graph in _parts(file, _whole(file), _MODEL_GRAPH)
            for value in _parts(file, graph, _GRAPH_INPUT, _GRAPH_OUTPUT)
        }


def map_classes(model: Path | bytes) -> Mapping[str, tuple[str, ...]]:
    """For each output of a ZipMap its classes as text, in ascending order. Raises NotWalkable."""
    found: dict[str, tuple[str, ...]] = {}
    with _opened(model) as file:
        for graph in _parts(file, _whole(file), _MODEL_GRAPH):
            for node in _parts(file, graph, _GRAPH_NODE):
                if _text(file, node, _NODE_OPERATOR) == b"ZipMap":
                    found[_text(file, node, _NODE_OUTPUT).decode("utf-8", "replace")] = _classes(file, node)
    return found


def _declared_shape(file: BinaryIO, value: "_Field") -> Shape | None:
    level = next(_parts(file, value, _VALUE_TYPE), None)
    while level is not None:
        kind = next(_parts(file, level, *_TYPE_INNER), None)
        if kind is None:
            return None
        level = next(_parts(file, kind, _TYPE_INNER[kind.number]), None)
        if kind.number == _TYPE_TENSOR:
            return None if level is None else tuple(_size(file, size) for size in _parts(file, level, _SHAPE_SIZE))
    return None


def _size(file: BinaryIO, size: "_Field") -> int:
    value = next(_parts(file, size, _SIZE_VALUE), None)
    return value.value if value is not None and value.value < 1 << 63 else -1


def _classes(file: BinaryIO, node: "_Field") -> tuple[str, ...]:
    for attribute in _parts(file, node, _NODE_ATTRIBUTE):
        if _text(file, attribute, _ATTRIBUTE_NAME) not in _CLASSES:
            continue
        strings = [_content(file, each) for each in _parts(file, attribute, _ATTRIBUTE_STRINGS)]
        if strings:
            return tuple(sorted(string.decode("utf-8", "replace") for string in strings))
        numbers = [number for each in _parts(file, attribute, _ATTRIBUTE_INTEGERS) for number in _integers(file, each)]
        return tuple(str(number) for number in sorted(numbers))
    return ()


def _integers(file: BinaryIO, field: "_Field") -> list[int]:
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


# -- protobuf's wire format ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message: a number, or the place of what has a length."""

    number: int
    wire_type: int
    value: int
    start: int
    end: int


def _opened(model: Path | bytes) -> BinaryIO:
    return io.BytesIO(model) if isinstance(model, bytes) else model.open("rb")


def _whole(file: BinaryIO) -> _Field:
    return _Field(0, _MESSAGE, 0, 0, file.seek(0, io.SEEK_END))


def _parts(file: BinaryIO, message: _Field, *numbers: int) -> Iterator[_Field]:
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


def _field(file: BinaryIO) -> _Field:
    key = _varint(file)
    number, wire_type = key >> 3, key & 7
    value = _varint(file) if wire_type in (_VARINT, _MESSAGE) else 0
    start = file.tell()
    lengths = {_VARINT: 0, _EIGHT_BYTES: 8, _MESSAGE: value, _FOUR_BYTES: 4}
    if number == 0 or wire_type not in lengths:
        raise NotWalkable("not the wire format of protobuf")
    return _Field(number, wire_type, value, start, start + lengths[wire_type])


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


def _text(file: BinaryIO, message: _Field, number: int) -> bytes:
    """The first field ``number`` of ``message``; empty where it has none."""
    field = next(_parts(file, message, number), None)
    return b"" if field is None else _content(file, field)


def _content(file: BinaryIO, field: _Field) -> bytes:
    file.seek(field.start)
    return file.read(field.end - field.start)
