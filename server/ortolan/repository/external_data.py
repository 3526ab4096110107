"""Which files a model wants beside it: its external data, by the locations that stand in its tensors.

A location is what the model's author wrote, so it may name nothing but a file in the directory of the model's file. The
numbers of the fields are those of ONNX's ``onnx.proto``.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ortolan.errors import InvalidArgument
from ortolan.inference.printable import printable
from ortolan.repository.file_names import stays_inside
from ortolan.repository.protobuf_fields import MESSAGE, Field, NotWalkable, content, opened, parts, text, whole

MARKS = (b"location", b"ep_cache_context")
"""A model whose file has none of these anywhere wants no other file: strings stand in it as they are."""

_MOST_SHOWN = 120
_EXTERNAL = 1
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_STRING = 1, 3, 4
INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Where tensors are: for each kind of message the fields that hold others, and of which kind those are."""


def external_locations(model: Path | bytes) -> tuple[str, ...]:
    """The locations of all external data as the model has them, each once, sorted.

    The compiled parts that ``EPContext`` nodes name are among them. Raises NotWalkable.
    """
    with opened(model) as file:
        return tuple(sorted({location.decode("utf-8", "replace") for location in _locations(file)}))


def path_inside(location: str) -> PurePosixPath:
    """``location`` as a path in the directory of the model's file. Raises InvalidArgument when it leads out of it."""
    if not stays_inside(location):
        raise InvalidArgument(
            f"the model keeps data in '{shown(location)}', which is not inside its directory; expected the relative "
            "name of a file beside the model, without '..'. Export the model anew, with its data beside it."
        )
    return PurePosixPath(location)


def shown(location: str) -> str:
    """A location, which may be any text, as it may stand in a message."""
    return printable(location, _MOST_SHOWN)


def _locations(file: BinaryIO) -> Iterator[bytes]:
    # A list of what is left to see, not recursion: graphs in attributes may nest as deep as the file likes. Of tuples
    # of numbers and texts, which Python's collector leaves alone: it holds up all threads for each object it looks at.
    left = [("model", 0, whole(file).end)]
    while left:
        kind, start, end = left.pop()
        message = Field(0, MESSAGE, 0, start, end)
        if kind == "tensor":
            yield from _of_tensor(file, message)
            continue
        if kind == "node":
            # Of a million nodes only the few that can matter are walked.
            if not any(mark in content(file, message) for mark in MARKS):
                continue
            yield from _of_compiled_node(file, message)
        inner = INNER[kind]
        left += [(inner[field.number], field.start, field.end) for field in parts(file, message, *inner)]


def _of_tensor(file: BinaryIO, tensor: Field) -> Iterator[bytes]:
    fields = list(parts(file, tensor, _TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION))
    if all(field.value & 0xFFFFFFFF != _EXTERNAL for field in fields if field.number == _TENSOR_DATA_LOCATION):
        return
    for entry in (field for field in fields if field.number == _TENSOR_EXTERNAL_DATA):
        # Most entries are offsets and lengths, which need no walk.
        if MARKS[0] in content(file, entry) and _last(file, entry, _ENTRY_KEY) == MARKS[0]:
            yield _last(file, entry, _ENTRY_VALUE)


def _of_compiled_node(file: BinaryIO, node: Field) -> Iterator[bytes]:
    """The file with what an execution provider compiled, where the node does not hold it itself."""
    if text(file, node, _NODE_OPERATOR) != b"EPContext":
        return
    attributes = {text(file, each, _ATTRIBUTE_NAME): each for each in parts(file, node, _NODE_ATTRIBUTE)}
    if b"embed_mode" not in attributes or b"ep_cache_context" not in attributes:
        return
    modes = [field.value for field in parts(file, attributes[b"embed_mode"], _ATTRIBUTE_INTEGER)]
    location = _last(file, attributes[b"ep_cache_context"], _ATTRIBUTE_STRING)
    if location and not any(modes):
        yield location


def _last(file: BinaryIO, message: Field, number: int) -> bytes:
    """The field ``number`` as protobuf's readers have it when it is there more than once."""
    found = b""
    for field in parts(file, message, number):
        found = content(file, field)
    return found


__all__ = ["INNER", "MARKS", "NotWalkable", "external_locations", "path_inside", "shown"]
