"""What a method may know of its call beside the request, and what it may add to the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from ortolan.core.request_note import RequestNote
from ortolan.frontends.access.admission import admit
from ortolan.frontends.access.grants import ANYBODY, Grant
from ortolan.frontends.access.operations import CHANGES, OPERATIONS, Operation
from ortolan.frontends.header_forwarding import NO_FORWARDING, HeaderForwarding
from ortolan.inference.request import InferenceRequest
from ortolan.protocol.serialized import Raw, Serialized

_RAISE_ERRORS = "triton_grpc_error"


@dataclass(slots=True)
class Call:
    """One call: until when it is wanted (monotonic nanoseconds; 0: for ever), its metadata, what follows its answer."""

    deadline_ns: int = 0
    metadata: tuple[tuple[str, str], ...] = ()
    forwarding: HeaderForwarding = NO_FORWARDING
    trailers: list[tuple[str, str]] = field(default_factory=list)
    operation: Operation = OPERATIONS["ServerLive"]
    grant: Grant = ANYBODY
    grant_now: Callable[[], Grant] | None = None
    """What the caller may do by now, which is less where a key goes; None where nobody is asked."""
    note: RequestNote | None = None
    """Where the call is noted, if it is."""

    def look_again(self) -> None:
        """For calls that go on. Raises Unauthenticated where the server does not know the caller any more."""
        if self.grant_now is not None:
            self.grant = self.grant_now()

    def check_model(self, name: str) -> None:
        """Raises Forbidden where the caller may not do this with the model ``name``, or with all for ""."""
        if self.grant is not ANYBODY:
            admit(self.grant, self.operation, name or None)

    def check_change(self, name: str = "") -> None:
        """``check_model`` for a method that is asked to change what it otherwise tells."""
        admit(self.grant, CHANGES[self.operation.name], name or None)

    def on_request(self, request: InferenceRequest) -> InferenceRequest:
        """``request`` with the call's deadline and the metadata that the operator wants forwarded.

        Raises Forbidden where the caller may not ask this model.
        """
        if self.note is not None:
            self.note.infers(request)
        self.check_model(request.model_name)
        if self.deadline_ns:
            request = replace(request, deadline_ns=self.deadline_ns)
        if self.forwarding:
            request = replace(request, parameters=self.forwarding.parameters(self.metadata, request.parameters))
        return request

    def wants_errors_raised(self) -> bool:
        """Whether the first error of a stream is to end it, instead of being told in the response."""
        return any(key == _RAISE_ERRORS and value.lower() == "true" for key, value in self.metadata)


Method = Callable[[Raw, Call], Awaitable[Serialized]]
"""A unary method: from the request's bytes to the response's. Errors rise as ``OrtolanError`` kinds."""
