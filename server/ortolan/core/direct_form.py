"""What one form of request comes to with one version, so that requests of that form need not be looked at again.

A form is everything of a request but its elements. What a version makes of it is the same each time: whether it fits,
the rows, the outputs, who may share a batch with it. Only requests without anything special have one: those that go
straight to the queue, by no cache, sequence, reshape or class, and whose outputs are what the graph gives.
"""

import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ortolan.core.request_note import RequestNote
from ortolan.execution.answer import Answer
from ortolan.execution.direct_request import Asker, DirectRequest, DirectTerms
from ortolan.inference.datatypes import Array, Datatype
from ortolan.inference.request import InferenceResponse, ResponseTiming, Tensor

if TYPE_CHECKING:
    from ortolan.core.model_version import ModelVersion


class DirectForm:
    """One form of request to one version, which it does not keep alive."""

    __slots__ = ("_datatypes", "_terms", "_version", "asked_name", "asked_version")

    def __init__(
        self,
        version: "ModelVersion",
        terms: DirectTerms,
        datatypes: tuple[Datatype, ...],
        asked_name: str,
        asked_version: str,
    ) -> None:
        """``datatypes`` are the outputs'; ``asked_name``, ``asked_version``: what the client calls the model."""
        self._version = weakref.ref(version)
        self._terms = terms
        self._datatypes = datatypes
        self.asked_name = asked_name
        self.asked_version = asked_version

    def begin(
        self, version: object, inputs: Mapping[str, Array], deadline_ns: int, asker: Asker
    ) -> DirectRequest | None:
        """Ask for the answer to ``inputs``. None where it has to be asked for as any other request.

        ``version`` is the one that serves now, by the name that the client used; ``deadline_ns``: 0 for none.
        """
        own = self._version()
        if own is None or own is not version or own.direct_scheduler is None:
            return None
        request = DirectRequest(own.direct_scheduler, asker, self._terms, inputs, time.monotonic_ns(), deadline_ns)
        if not own.direct_scheduler.begin(request):
            return None
        own.touch()
        return request

    def tell(self, note: RequestNote) -> None:
        """What the request is that ``note`` is about."""
        note.asks(self.asked_name, self._terms.version)
        note.inference_id = self._terms.request_id

    def response(self, answer: Answer) -> InferenceResponse:
        """``answer`` as clients are told it."""
        terms = self._terms
        outputs = zip(terms.output_names, self._datatypes, answer.outputs, strict=True)
        tensors = tuple([Tensor(name, datatype, array.shape, array) for name, datatype, array in outputs])
        return InferenceResponse(terms.model_name, terms.version, terms.request_id, tensors, timing=timing_of(answer))


def timing_of(answer: Answer) -> ResponseTiming:
    """Where the time of a request went."""
    input_ns, output_ns = answer.times.input_ns, answer.times.output_ns
    return ResponseTiming(answer.queue_ns, answer.compute_ns, answer.batch_rows, input_ns, output_ns)
