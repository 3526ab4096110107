"""Responses over HTTP that differ in the elements of their outputs: what stands around these is written once."""

from collections.abc import Sequence

import orjson

from ortolan.inference.datatypes import Array
from ortolan.inference.request import UNREAD, InferenceRequest, InferenceResponse, Tensor
from ortolan.inference.tensor_bytes import number_bytes
from ortolan.protocol.json_codec import EncodedResponse, asked_binary, response_json
from ortolan.protocol.json_tensors import json_elements, with_non_finite_tokens

_NO_ELEMENTS = b'"data":[]'


class AnswerFrame:
    """The text of a response, without the elements that stand in it. For outputs of the same shapes, none of BYTES."""

    __slots__ = ("_binary", "_outputs", "_texts")

    def __init__(self, response: InferenceResponse, request: InferenceRequest) -> None:
        """``response`` has all of its outputs in itself, and ``request`` asked for it so."""
        binary = asked_binary(request)
        self._outputs = [(tensor, binary.get(tensor.name, request.binary_by_default)) for tensor in response.outputs]
        entries = []
        for tensor, is_binary in self._outputs:
            entry: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype.name, "shape": tensor.shape}
            if is_binary:
                entry["parameters"] = {"binary_data_size": tensor.array.nbytes}
            else:
                entry["data"] = []
            entries.append(entry)
        # Within strings there are no quotation marks that stand for themselves.
        self._texts = response_json(response, entries).split(_NO_ELEMENTS)
        self._binary = all(is_binary for _, is_binary in self._outputs) and self._has_elements()
        # The arrays are not to be kept for what they are described by.
        self._outputs = [(_blank(tensor), is_binary) for tensor, is_binary in self._outputs]

    @property
    def text_bytes(self) -> int:
        """What it takes of memory, roughly."""
        return sum(map(len, self._texts))

    def encoded(self, outputs: Sequence[Array]) -> EncodedResponse:
        """The response with the elements of ``outputs``, which are in the order of its own."""
        if self._binary:
            text = self._texts[0]
            if len(outputs) == 1:
                return EncodedResponse((text, number_bytes(outputs[0])), len(text))
            return EncodedResponse((text, *map(number_bytes, outputs)), len(text))
        if len(outputs) == 1 and len(self._texts) == 2:
            before, behind = self._texts
            text = b"".join((before, b'"data":', _json(self._outputs[0][0], outputs[0]), behind))
            return EncodedResponse((text,), None)
        return self._mixed(outputs)

    def _mixed(self, outputs: Sequence[Array]) -> EncodedResponse:
        parts: list[bytes | memoryview] = []
        texts = iter(self._texts)
        pieces = [next(texts)]
        for (tensor, is_binary), array in zip(self._outputs, outputs, strict=True):
            if is_binary:
                parts.append(number_bytes(array))
            else:
                pieces += (b'"data":', _json(tensor, array), next(texts))
        text = b"".join(pieces)
        if not any(map(len, parts)):
            return EncodedResponse((text,), None)
        return EncodedResponse((text, *parts), len(text))

    def _has_elements(self) -> bool:
        return any(tensor.array.nbytes for tensor, _ in self._outputs)


def _json(tensor: Tensor, array: Array) -> bytes:
    elements = json_elements(Tensor(tensor.name, tensor.datatype, tensor.shape, array))
    text = orjson.dumps(elements, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:
        text = orjson.dumps(with_non_finite_tokens(elements), option=orjson.OPT_SERIALIZE_NUMPY)
    return text


def _blank(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.shape, UNREAD)
