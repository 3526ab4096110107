"""Requests with one head whose description came before, too: what they ask, and how their answers look."""

from functools import lru_cache

from ortolan.core.direct_form import DirectForm
from ortolan.execution.answer import Answer
from ortolan.frontends.known_forms import Frames, Lessons
from ortolan.frontends.rest.answer import Headers, header_lines
from ortolan.frontends.rest.inference import form_headers
from ortolan.inference.datatypes import Array
from ortolan.inference.request import InferenceRequest
from ortolan.protocol.answer_frame import AnswerFrame
from ortolan.protocol.json_codec import EncodedResponse, encode_response
from ortolan.protocol.json_numbers import JsonNumbers, numbers_of
from ortolan.protocol.remembered_inputs import RememberedInputs, remembered

_MOST_BINARY = 16
_MOST_JSON = 4
_LONGEST_BYTES = 2048


class KnownRequest:
    """One form of request over HTTP, and its answers."""

    __slots__ = ("_frames", "_wanted", "form")

    def __init__(self, form: DirectForm, request: InferenceRequest) -> None:
        self.form = form
        # Its tensors are not to be kept.
        wanted = InferenceRequest("", outputs=request.outputs, binary_by_default=request.binary_by_default)
        self._wanted = wanted
        self._frames = Frames(lambda response: AnswerFrame(response, wanted))

    def encoded(self, answer: Answer) -> EncodedResponse:
        """The answer's body."""
        frame = self._frames.find(answer.outputs)
        if frame is not None:
            return frame.encoded(answer.outputs)
        response = self.form.response(answer)
        self._frames.learn(response)
        return encode_response(response, self._wanted)


class KnownRequests:
    """Those that came with heads that differ in the length of the body only. For one thread."""

    __slots__ = ("_binary", "_json", "lessons")

    def __init__(self) -> None:
        self._binary: dict[tuple[int, bytes], tuple[KnownRequest, RememberedInputs]] = {}
        self._json: list[tuple[KnownRequest, JsonNumbers]] = []
        self.lessons = Lessons()

    def find(self, data: bytes, start: int, json_bytes: int | None) -> tuple[KnownRequest, dict[str, Array]] | None:
        """The request whose body is ``data`` from ``start`` on, if one like it came before, and its inputs.

        ``json_bytes``: how many of them are JSON; None where all are.
        """
        if json_bytes is not None:
            binary = self._binary.get((len(data) - start, data[start : start + json_bytes]))
            if binary is not None:
                return binary[0], binary[1].arrays(data, start)
        else:
            for known, numbers in self._json:
                if numbers.surrounds(data, start) and (array := numbers.array(data, start)) is not None:
                    return known, {numbers.name: array}
        self.lessons.missed()
        return None

    def learn(self, body: bytes, json_bytes: int | None, form: DirectForm | None, request: InferenceRequest) -> None:
        """``body`` said ``request``, which was answered; without a ``form`` others like it are not to be known."""
        self.lessons.learned()
        if form is None:
            return
        known = KnownRequest(form, request)
        if json_bytes is None:
            numbers = numbers_of(request, body)
            if numbers is not None:
                same = [each for each in self._json if each[1] != numbers]
                self._json = [(known, numbers), *same][:_MOST_JSON]
        elif json_bytes <= _LONGEST_BYTES and (inputs := remembered(request, body)) is not None:
            if len(self._binary) >= _MOST_BINARY:
                self._binary.clear()
            self._binary[len(body), body[:json_bytes]] = known, inputs


@lru_cache(1024)
def described(header_length: int | None, size: int) -> bytes:
    """The lines of an answer's head that say how its body, which has ``size`` bytes, is to be read."""
    content_type, extra = form_headers(header_length)
    headers: Headers = [(b"content-type", content_type), *extra, (b"content-length", b"%d" % size)]
    return header_lines(headers)
