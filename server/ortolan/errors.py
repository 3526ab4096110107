"""Everything that can go wrong with a request, by kind: Triton's eight kinds, and refusals of who may not ask.

    OrtolanError
    ├── InvalidArgument      the client sent something this model cannot take
    │   ├── MessageTooLarge  more than the operator allows, over gRPC
    │   ├── BodyTooLarge     the same over HTTP, where nothing was to be inferred
    │   └── Incomplete       files of a model are missing or cut short, as while they are being copied
    ├── NotFound             no such model, version or region
    ├── AlreadyExists        a name that is taken
    ├── Unavailable          known, but not able to answer now
    │   ├── QueueFull        refused at the door
    │   ├── RequestTimeout   its time ran out while it waited
    │   ├── NoRoom           too much is held for clients that do not send the rest, or take their answers
    │   ├── OutOfMemory      there is no memory left for it
    │   └── DeadlineExceeded its client's deadline cannot be met, or has passed
    ├── Unsupported          the protocol allows it, this server does not do it
    │   └── UnsupportedEncoding  a compression that no one here can undo
    ├── Restricted           the operator keeps this for those who know a header
    ├── Unauthenticated      nobody knows who asks
    ├── Forbidden            who asks may not
    ├── Cancelled            the client gave up
    ├── Unknown              a failure without a better name
    └── Internal             a fault of ours or of the model

    StartupError             the process cannot start: what is wrong and what to do about it

Every message is written for the client that reads it: what was expected, what came, what to do. It never carries a
path, a key or a stack. ``frontends/status.py`` turns kinds into HTTP statuses and gRPC codes.
"""


class OrtolanError(Exception):
    """A request, or a model's load, that failed; its text is the message for the client."""

    @property
    def message(self) -> str:
        return str(self)


class InvalidArgument(OrtolanError):
    """The request cannot be answered as it was sent; sending it again will not help."""


class MessageTooLarge(InvalidArgument):
    """A gRPC message, as it comes or decompressed, or its metadata are larger than they may be."""


class BodyTooLarge(InvalidArgument):
    """The body of a request over HTTP that is no inference is larger than it may be."""


class Incomplete(InvalidArgument):
    """A model cannot be loaded because files of it are missing, cut short or not yet what they should be."""


class NotFound(OrtolanError):
    """The request names something that is not there."""


class AlreadyExists(OrtolanError):
    """The request would make something that is there already."""


class Unavailable(OrtolanError):
    """The request is right, but cannot be answered now; ``retry_after_s`` is when it may be sent again."""

    retry_after_s: int = 1


class QueueFull(Unavailable):
    """The request was refused at the door because too many wait already."""


class RequestTimeout(Unavailable):
    """The request's time ran out before it was executed."""


class NoRoom(Unavailable):
    """The server holds too many bytes of requests that are not whole and of answers that are not taken."""


class OutOfMemory(Unavailable):
    """A model or a request does not fit into memory; it may once others are unloaded or answered."""


class DeadlineExceeded(Unavailable):
    """The deadline that the client set cannot be met, or has passed."""


class Unsupported(OrtolanError):
    """The protocol knows this, the server does not do it."""


class UnsupportedEncoding(Unsupported):
    """The request's body is compressed in a way that this server does not know."""


class Restricted(OrtolanError):
    """The operator restricted what the request asks for, and the request lacks the header that would open it."""


class Unauthenticated(OrtolanError):
    """The request has no key, token or certificate that the server knows; never says what it was about."""


class Forbidden(OrtolanError):
    """Who asks is known, or nobody is asked who they are, and may not do that; never says to which model."""


class Cancelled(OrtolanError):
    """The client gave up before the answer was ready."""


class Unknown(OrtolanError):
    """A failure without a better name."""


class Internal(OrtolanError):
    """A fault of the server or of the model."""


class StartupError(Exception):
    """The server cannot start. The text is for the operator, so it may name paths and ports."""
