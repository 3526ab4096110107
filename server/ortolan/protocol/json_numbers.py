"""JSON requests that differ in the numbers of their only tensor: the text around these need not be read again."""

import json
import re
from dataclasses import dataclass

import orjson

from ortolan.errors import InvalidArgument
from ortolan.inference import datatypes
from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.request import InferenceRequest
from ortolan.protocol.json_document import depth_behind, may_hold_booleans, parse_object, refuse_deep_nesting
from ortolan.protocol.json_tensors import array_from_json

_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
_LONGEST_BYTES = 2048
_MARK = "nothing that a number could be"


@dataclass(frozen=True, slots=True)
class JsonNumbers:
    """The text before and behind the numbers, and the tensor that they are."""

    before: bytes
    behind: bytes
    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    count: int
    depth: int
    """In how many arrays and objects the numbers stand."""

    def surrounds(self, data: bytes, start: int) -> bool:
        """Whether ``data`` from ``start`` on has this text around something."""
        return (
            data.startswith(self.before, start)
            and data.endswith(self.behind)
            and len(data) - start > len(self.before) + len(self.behind)
        )

    def array(self, data: bytes, start: int) -> Array | None:
        """The tensor in ``data``, whose text surrounds it; None where it has to be read as a whole."""
        text = data[start + len(self.before) : len(data) - len(self.behind)]
        try:
            refuse_deep_nesting(text, self.depth)
            numbers = orjson.loads(text)
            return array_from_json(numbers, self.datatype, self.shape, self.count, self.name, may_hold_booleans(text))
        except (orjson.JSONDecodeError, InvalidArgument):
            return None


def numbers_of(request: InferenceRequest, body: bytes) -> JsonNumbers | None:
    """What surrounds the numbers in ``body``, which is JSON alone and said ``request``; None if more may differ.

    What stands around one value of a document means the same around any other: that the value is the tensor's data,
    and nothing else in the document, is tried with another one in its place.
    """
    if len(request.inputs) != 1 or request.inputs[0].datatype in (datatypes.BYTES, datatypes.BOOL):
        return None
    found = _DATA.search(body)
    if found is None:
        return None
    try:
        text = body[found.end() :].decode()
        behind = text[json.JSONDecoder().raw_decode(text)[1] :].encode()
        before = body[: found.end()]
        if len(before) + len(behind) > _LONGEST_BYTES or not _is_around_data(before, behind, parse_object(body)):
            return None
    except (ValueError, InvalidArgument):
        return None
    tensor = request.inputs[0]
    depth = depth_behind(before)
    return JsonNumbers(before, behind, tensor.name, tensor.datatype, tensor.shape, tensor.array.size, depth)


def _is_around_data(before: bytes, behind: bytes, document: object) -> bool:
    marked = parse_object(before + orjson.dumps(_MARK) + behind)
    entries = marked.get("inputs")
    if not isinstance(entries, list) or entries[0].get("data") != _MARK:
        return False
    assert isinstance(document, dict)  # noqa: S101 - it is what parse_object returns
    entries[0]["data"] = document["inputs"][0]["data"]
    return marked == document
