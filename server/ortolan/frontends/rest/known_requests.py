"""Requests with one head whose description came before, too: what they ask, and how their answers look."""

from functools import lru_cache

from ortolan.core.direct_form import DirectForm
from ortolan.execution.answer import Answer
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
_MOST_FRAMES = 4
_LONGEST_FRAME_BYTES = 4096
# A client whose descriptions are all different makes each of them be looked at in vain: after some, only now and then.
_FREE_LESSONS = 32
_LESSON_EACH = 64


class KnownRequest:
    """One form of request over HTTP, and its answers."""

    __slots__ = ("_frames", "_wanted", "form")

    def __init__(self, form: DirectForm, request: InferenceRequest) -> None:
        self.form = form
        # Its tensors are not to be kept.
        self._wanted = InferenceRequest("", outputs=request.outputs, binary_by_default=request.binary_by_default)
        self._frames: dict[tuple[object, ...], AnswerFrame] = {}

    def encoded(self, answer: Answer) -> EncodedResponse:
        """The answer's body."""
        outputs = answer.outputs
        shapes = outputs[0].shape if len(outputs) == 1 else tuple([array.shape for array in outputs])
        frame = self._frames.get(shapes)
        if frame is not None:
            return frame.encoded(outputs)
        response = self.form.response(answer)
        if len(self._frames) < _MOST_FRAMES:
            frame = AnswerFrame(response, self._wanted)
            if frame.text_bytes <= _LONGEST_FRAME_BYTES:
                self._frames[shapes] = frame
        return encode_response(response, self._wanted)


class KnownRequests:
    """Those that came with heads that differ in the length of the body only. For one thread."""

    __slots__ = ("_begun", "_binary", "_json", "_learned", "_missed")

    def __init__(self) -> None:
        self._binary: dict[tuple[int, bytes], tuple[KnownRequest, RememberedInputs]] = {}
        self._json: list[tuple[KnownRequest, JsonNumbers]] = []
        self._learned = 0
        self._begun = 0
        self._missed = 0

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
        self._missed += 1
        return None

    def begun(self) -> None:
        """One that was found was of use."""
        self._begun += 1

    def outdated(self) -> None:
        """One that was found is so no more, and may be learned again."""
        self._learned -= 1

    @property
    def learns(self) -> bool:
        """Whether it pays off to learn more."""
        return self._learned < max(_FREE_LESSONS, self._begun) or not self._missed % _LESSON_EACH

    def learn(self, body: bytes, json_bytes: int | None, form: DirectForm | None, request: InferenceRequest) -> None:
        """``body`` said ``request``, which was answered; without a ``form`` others like it are not to be known."""
        self._learned += 1
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
