"""Where the weights of a compiled model lie in their file: so that they may be used from where they are mapped.

ONNX Runtime 1.31 writes what it has laid out for the processor to wherever the file happens to end. The same kernels
that get it on 64 bytes from the runtime's own allocator then load it with instructions that end the process when it is
not, and only some numbers of rows take those. So the file is written again, every part on 64 bytes.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

ALIGNMENT = 64
_PAGE = 4096
_CHUNK = 1 << 20
_OFFSET, _LENGTH, _PACKED = "offset", "length", "prepacked_"


class NotMovable(Exception):
    """The model says where its weights are in a way that is not known here."""


@dataclass
class Layout:
    """Where parts of a file come to lie in a new one. A part is known by its offset and length in the old one."""

    moved: dict[tuple[int, int], int] = field(default_factory=dict)
    end: int = 0

    def place(self, offset: int, length: int) -> int:
        """The new offset of a part: a multiple of ALIGNMENT, with as much behind it on its last page.

        A kernel that reads ahead of what it needs would otherwise leave what is mapped.
        """
        part = (offset, length)
        if part not in self.moved:
            start = -(-self.end // ALIGNMENT) * ALIGNMENT
            while (start + length) % _PAGE > _PAGE - ALIGNMENT or (start + length) % _PAGE == 0:
                start += ALIGNMENT
            self.moved[part] = start
            self.end = start + length
        return self.moved[part]


def align_weights(model: Path, weights: Path) -> None:
    """Write both files again, so that every part of ``weights`` is aligned. Without weights nothing is to be done.

    Raises NotMovable, ImportError without the onnx package, and OSError.
    """
    if not weights.exists():
        return
    import onnx

    proto = onnx.load(str(model), load_external_data=False)
    layout = Layout()
    try:
        for tensor in _tensors(proto.graph):
            for entry in tensor.external_data:
                _check_location(entry, weights)
            _move(tensor.external_data, layout)
    except (ValueError, KeyError) as error:
        raise NotMovable(f"its weights are described in an unknown way: {error}") from error
    _rewrite(weights, layout)
    model.write_bytes(proto.SerializeToString())


def packed_parts(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """What ``prepacked_N`` says: the kernel's key, and offset, length and checksum of each part."""
    key, *parts = text.split("|")
    found = [part.split(";") for part in parts]
    return key, [(int(offset), int(length), checksum) for offset, length, checksum in found]


def _check_location(entry: Any, weights: Path) -> None:
    if entry.key == "location" and entry.value != weights.name:
        raise ValueError("they are in another file")


def _move(entries: Any, layout: Layout) -> None:
    """Have the entries of one tensor say where it will be."""
    by_key = {entry.key: entry for entry in entries}
    if not by_key:
        return
    offset, length = by_key[_OFFSET], by_key[_LENGTH]
    offset.value = str(layout.place(int(offset.value), int(length.value)))
    for entry in entries:
        if entry.key.startswith(_PACKED):
            key, parts = packed_parts(entry.value)
            moved = [f"{layout.place(start, size)};{size};{checksum}" for start, size, checksum in parts]
            entry.value = "|".join([key, *moved])


def _tensors(graph: Any) -> Iterator[Any]:
    """The initial values of the graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def _rewrite(weights: Path, layout: Layout) -> None:
    new = weights.with_name(f"{weights.name}.new")
    with weights.open("rb") as source, new.open("xb") as target:
        for (offset, length), start in layout.moved.items():
            source.seek(offset)
            target.seek(start)
            _copy(source, target, length)
        # What lies behind the last part is mapped with it.
        target.truncate(layout.end + ALIGNMENT)
    os.replace(new, weights)


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length:
        chunk = source.read(min(length, _CHUNK))
        if not chunk:
            raise OSError("the file of weights is shorter than it should be")
        target.write(chunk)
        length -= len(chunk)
