"""What a model's file declares and ONNX Runtime does not tell: ranks, shapes inside sequences, the classes of maps.

The runtime reports a scalar and a tensor of any rank alike. The file is walked field by field, so that weights are
skipped over, not read. The numbers of the fields are those of ONNX's ``onnx.proto``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ortolan.repository.protobuf_fields import Field, NotWalkable, content, integers, opened, parts, text, whole

__all__ = ["NotWalkable", "Shape", "declared_shapes", "map_classes"]

Shape = tuple[int, ...]

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


def declared_shapes(model: Path | bytes) -> Mapping[str, Shape | None]:
    """For each input and output of the graph the shape of its tensor, or of the tensors in its sequence or optional.

    None where even the rank is left open; a size that is left open is -1. Raises NotWalkable.
    """
    with opened(model) as file:
        return {
            text(file, value, _VALUE_NAME).decode("utf-8", "replace"): _declared_shape(file, value)
            for graph in parts(file, whole(file), _MODEL_GRAPH)
            for value in parts(file, graph, _GRAPH_INPUT, _GRAPH_OUTPUT)
        }


def map_classes(model: Path | bytes) -> Mapping[str, tuple[str, ...]]:
    """For each output of a ZipMap its classes as text, in ascending order. Raises NotWalkable."""
    found: dict[str, tuple[str, ...]] = {}
    with opened(model) as file:
        for graph in parts(file, whole(file), _MODEL_GRAPH):
            for node in parts(file, graph, _GRAPH_NODE):
                if text(file, node, _NODE_OPERATOR) == b"ZipMap":
                    found[text(file, node, _NODE_OUTPUT).decode("utf-8", "replace")] = _classes(file, node)
    return found


def _declared_shape(file: BinaryIO, value: Field) -> Shape | None:
    level = next(parts(file, value, _VALUE_TYPE), None)
    while level is not None:
        kind = next(parts(file, level, *_TYPE_INNER), None)
        if kind is None:
            return None
        level = next(parts(file, kind, _TYPE_INNER[kind.number]), None)
        if kind.number == _TYPE_TENSOR:
            return None if level is None else tuple(_size(file, size) for size in parts(file, level, _SHAPE_SIZE))
    return None


def _size(file: BinaryIO, size: Field) -> int:
    value = next(parts(file, size, _SIZE_VALUE), None)
    return value.value if value is not None and value.value < 1 << 63 else -1


def _classes(file: BinaryIO, node: Field) -> tuple[str, ...]:
    for attribute in parts(file, node, _NODE_ATTRIBUTE):
        if text(file, attribute, _ATTRIBUTE_NAME) not in _CLASSES:
            continue
        strings = [content(file, each) for each in parts(file, attribute, _ATTRIBUTE_STRINGS)]
        if strings:
            return tuple(sorted(string.decode("utf-8", "replace") for string in strings))
        numbers = [number for each in parts(file, attribute, _ATTRIBUTE_INTEGERS) for number in integers(file, each)]
        return tuple(str(number) for number in sorted(numbers))
    return ()
