"""Calls of ModelInfer whose form is known: asked and answered by calls of functions, with no coroutine."""

import time
from collections.abc import Mapping
from contextlib import suppress

from ortolan.core.direct_form import DirectForm, timing_of
from ortolan.core.inference_core import InferenceCore
from ortolan.errors import OrtolanError
from ortolan.execution.answer import Answer
from ortolan.execution.direct_request import Asker, DirectRequest
from ortolan.frontends.grpc.call import Call
from ortolan.frontends.grpc.traced import may_be_traced
from ortolan.frontends.known_forms import Frames, Lessons
from ortolan.frontends.server_timing import server_timing
from ortolan.inference.datatypes import Array
from ortolan.protocol.message_frame import MessageFrame
from ortolan.protocol.protobuf_codec import decode_request, encode_response
from ortolan.protocol.remembered_inputs import RememberedInputs
from ortolan.protocol.remembered_messages import MessagesByHead, may_be_remembered, remembered_at_end
from ortolan.protocol.serialized import Raw, Serialized


class KnownMessage:
    """One form of request over gRPC, and its answers."""

    __slots__ = ("_frames", "_inputs", "form")

    def __init__(self, form: DirectForm, inputs: RememberedInputs) -> None:
        self.form = form
        self._inputs = inputs
        self._frames = Frames(MessageFrame)

    def arrays(self, data: Raw) -> Mapping[str, Array]:
        return self._inputs.arrays(data)

    def encoded(self, answer: Answer) -> Serialized:
        """The answer's message. Raises InvalidArgument where it is too large for one."""
        frame = self._frames.find(answer.outputs)
        if frame is not None:
            return frame.encoded(answer.outputs)
        response = self.form.response(answer)
        self._frames.learn(response)
        return encode_response(response)


class DirectInferences:
    """The messages that came before. Lives on the event loop."""

    def __init__(self, core: InferenceCore, timing: bool) -> None:
        """``timing``: whether each inference tells where its time went."""
        self._core = core
        self._timing = timing
        self._known: MessagesByHead[KnownMessage] = MessagesByHead()
        self.lessons = Lessons()

    def begin(self, data: Raw, call: Call, asker: Asker) -> tuple[KnownMessage, DirectRequest] | None:
        """Ask for the answer to the message ``data``. None where it has to be asked for by the method."""
        known = self._known.find(data)
        if known is None:
            self.lessons.missed()
            return None
        # Raises where the method would refuse it, too.
        call.check_model(known.form.asked_name)
        # What is traced is followed through all of its steps.
        if self._core.tracing.on and may_be_traced(self._core.tracing, known.form.asked_name, call.metadata):
            return None
        request = self._core.direct.begin(known.form, known.arrays(data), asker, call.deadline_ns)
        if request is None:
            self.lessons.outdated()
            return None
        self.lessons.begun()
        return known, request

    def learn(self, data: Raw) -> None:
        """``data`` was answered."""
        if not self.lessons.pay:
            return
        self.lessons.learned()
        with suppress(OrtolanError):
            if not may_be_remembered(data):
                return
            request = decode_request(data)
            inputs = remembered_at_end(request, data)
            if inputs is not None and (form := self._core.direct.form(request)) is not None:
                self._known.remember(data, inputs.begins[0], KnownMessage(form, inputs))

    def encoded(self, known: KnownMessage, answer: Answer, call: Call) -> Serialized:
        """The answer's message; ``call`` is told what is to follow it. Raises as ``KnownMessage.encoded`` does."""
        start_ns = time.monotonic_ns()
        message = known.encoded(answer)
        if self._timing:
            timing = server_timing(timing_of(answer), time.monotonic_ns() - start_ns)
            call.trailers.append(("server-timing", timing))
        return message
