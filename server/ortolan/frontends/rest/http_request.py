"""A request as the steps of an inference see it, whichever way it came in."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from ortolan.core.request_note import RequestNote
from ortolan.core.tracing import FrontendTrace
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.inference.request import InferenceRequest

Body = bytes | memoryview
"""A body; of a large one a read-only view of the memory that it was received into."""


class HttpRequest:
    """Its headers, its trace, its body when it has come, and whether its client is still there."""

    __slots__ = ("by_name", "headers", "learn", "note", "trace", "whole_body")

    def __init__(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        trace: FrontendTrace | None,
        by_name: Mapping[bytes, bytes] | None = None,
        whole_body: Body = b"",
    ) -> None:
        """``headers`` with their names in lower case, in the order in which they came.

        ``by_name``: the first of each name, where that is known already. ``whole_body``: the body as the routes want
        it, where it came with the head, within the limit and without an encoding.
        """
        self.headers = headers
        self.trace = trace
        # Of several headers of one name the first counts.
        self.by_name = dict(reversed(headers)) if by_name is None else by_name
        self.whole_body = whole_body
        self.note: RequestNote | None = None
        """Where its answer is noted, if it is."""
        self.learn: Callable[[InferenceRequest], None] | None = None
        """Wants to know what the body said, once that was answered."""

    def header(self, name: bytes) -> str | None:
        """The value of the header ``name`` (lower case), or None."""
        value = self.by_name.get(name)
        return None if value is None else str(value, "latin-1")

    async def sent_body(self, limit: BodyLimit) -> Body:
        """The whole body as it was sent.

        Raises ``limit.refusal`` as soon as it is larger than that, Cancelled when the client goes before.
        """
        raise NotImplementedError

    def watched(self) -> AbstractContextManager[None]:
        """A block of which what it awaits is cancelled when the client goes. It may raise Cancelled then."""
        raise NotImplementedError
