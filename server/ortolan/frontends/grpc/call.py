"""What a method may know of its call beside the request, and what it may add to the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

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

    def on_request(self, request: InferenceRequest) -> InferenceRequest:
        """``request`` with the call's deadline and the metadata that the operator wants forwarded."""
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
