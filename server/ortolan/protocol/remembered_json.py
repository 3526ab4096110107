"""Requests over HTTP whose JSON came before: clients send one JSON again and again, with other binary parts."""

from ortolan.inference.request import InferenceRequest
from ortolan.protocol.json_codec import decode_request
from ortolan.protocol.remembered_inputs import RememberedInputs, remembered
from ortolan.protocol.serialized import Raw

_MOST = 256
_LONGEST_BYTES = 2048
_MOST_DIGITS = 4


class RememberedJson:
    """``decode_request``, which reads no JSON twice that describes only binary tensors of numbers.

    That is decided by the bytes alone: the same JSON in a body of the same length is the same request, but for its
    elements. Holds at most ``_MOST`` of at most ``_LONGEST_BYTES``. For one thread.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int, bytes], RememberedInputs] = {}

    def decode(self, model_name: str, model_version: str, body: Raw, header_length: str | None) -> InferenceRequest:
        """As ``decode_request``, and raises as that does."""
        if header_length is None or len(header_length) > _MOST_DIGITS or not header_length.isdecimal():
            return decode_request(model_name, model_version, body, header_length)
        text = bytes(body[: int(header_length)])
        key = (model_name, model_version, len(body), text)
        known = self._known.get(key)
        if known is not None:
            return known.of(body)
        request = decode_request(model_name, model_version, body, header_length)
        if len(text) <= _LONGEST_BYTES and (found := remembered(request, body)) is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return request
