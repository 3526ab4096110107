"""Which parts of a model's file are not its weights, told as the file goes by chunk by chunk.

Of a chunk in the midst of a large tensor it says at once that there is nothing to see. The numbers of the fields are
those of ONNX's ``onnx.proto``.
"""

from ortolan.repository.external_data import INNER
from ortolan.repository.protobuf_fields import LONGEST_HEADER, MESSAGE, NotWalkable, header

# The fields with elements; where there are many, they are skipped.
_ELEMENTS = {"tensor": (4, 5, 6, 7, 9, 10, 11), "attribute": (4, 7, 8)}
_LARGE_BYTES = 16384
# Graphs in attributes may nest as deep as the file likes.
_DEEPEST = 64
# A file that is no model may be nothing but fields of two bytes. Models have some for each node.
MOST_FIELDS = 1_000_000


class WeightSkipper:
    """Follows the fields of one file. What is no ONNX protobuf is to be looked at as a whole, from there on."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        self._most_fields = most_fields
        # All places are in the file: how much has gone by, and where the next field begins.
        self._position = self._next = 0
        self._skips = False
        """Whether what lies before the next field is elements."""
        self._head = b""
        """The beginning of the next field, where a chunk ended in it."""
        self._inside: list[tuple[str, float]] = [("model", float("inf"))]
        """The kinds of the messages that we are in, with their ends."""
        self._lost = False
        self._fields = 0

    def spans(self, chunk: bytes) -> list[tuple[int, int]]:
        """What to look into of the next ``chunk``, as starts and ends in it."""
        base, end = self._position, self._position + len(chunk)
        self._position = end
        found: list[tuple[int, int]] = []
        seen = max(base, min(self._next, end)) if self._skips else base
        try:
            while not self._lost and self._next < end:
                start = self._enter(chunk, base)
                if start is None:
                    break
                if self._skips:
                    found.append((seen, min(start, end)))
                    seen = min(self._next, end)
        except NotWalkable:
            self._lost, self._skips = True, False
        found.append((seen, end))
        return [(first - base, last - base) for first, last in found if first < last]

    def _enter(self, chunk: bytes, base: int) -> int | None:
        """Go to the field after the next one, or into it, and say where its content starts; None where it is cut."""
        self._fields += 1
        if self._fields > self._most_fields:
            raise NotWalkable("more fields than a model has")
        at = max(self._next - base, 0)
        head = self._head + chunk[at : at + LONGEST_HEADER]
        while self._inside[-1][1] <= self._next:
            self._inside.pop()
        try:
            number, wire_type, size, start, after = header(head, 0)
        except NotWalkable:
            if len(head) < LONGEST_HEADER:
                self._head = head
                return None
            raise
        start, after = self._next + start, self._next + after
        kind, limit = self._inside[-1]
        if after > limit:
            raise NotWalkable("a field is longer than its message")
        inner = INNER.get(kind, {}).get(number)
        large = wire_type == MESSAGE and size > _LARGE_BYTES
        enters = large and inner is not None and len(self._inside) < _DEEPEST
        if inner is not None and enters:
            self._inside.append((inner, after))
        self._skips = large and number in _ELEMENTS.get(kind, ())
        self._head, self._next = b"", start if enters else after
        return start
