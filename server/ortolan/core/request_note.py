"""What is noted of one request until it is answered: for the access log, and for whoever names it by its id."""

import re
import time
from typing import Protocol

from ortolan.core.frontend_trace import FrontendTrace
from ortolan.inference.request import InferenceRequest, InferenceResponse

REQUEST_ID = "x-request-id"
"""The header, and over gRPC the metadata, by which clients name their requests and are told the name again."""

GONE_STATUS = 499
"""Over HTTP, of a request whose client went before it was answered: nginx' number, which log readers know."""
GONE_CODE = "CANCELLED"
"""The same over gRPC."""

_VALID_ID = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
# A note waits for its turn to be written: nobody is to fill the memory with long names meanwhile.
_KEPT = 1024


def valid_request_id(text: str) -> str:
    """``text`` as a client's name for its request; "" for what is longer than 128 characters of printable ASCII."""
    return text if _VALID_ID.fullmatch(text) else ""


class Keeper(Protocol):
    """Who wants to know of requests once they are answered."""

    def add(self, note: "RequestNote") -> None: ...


class RequestNote:
    """One request. Lives on the event loop until it is answered, and is changed no more from then on."""

    # Defaults of the class, not slots: most notes change few of them, and making one costs half as much.
    caller = ""
    """Who asked, where the server knows."""
    user_agent: bytes | str = b""
    model = ""
    version = ""
    """The one that answered, or was asked for."""
    inference_id = ""
    """The inference's own id, from its body."""
    error = ""
    """The kind of error that it was refused with."""
    trace: FrontendTrace | None = None
    trace_id = ""
    code: int | str = 0
    """A status over HTTP, the name of a code over gRPC."""
    time_s = 0.0
    """When it was answered, in seconds since 1970."""
    duration_ns = 0
    bytes_in = -1
    """Of the request's body or messages, as they came; -1 where nobody counted."""
    bytes_out = 0

    def __init__(
        self, keeper: Keeper | None, request_id: str, protocol: str, client: object, method: str, target: bytes
    ) -> None:
        """It begins now. ``client``: its address as sockets have it; ``method``: "" over gRPC.

        ``target``: what was asked for, as it was sent: over HTTP with its query. Without ``keeper`` only its id counts.
        """
        self._keeper = keeper
        self._start_ns = time.monotonic_ns()
        self.request_id = request_id
        self.protocol = protocol
        self.client = client
        self.method = method
        self.target = target[:_KEPT]

    def asked_by(self, holder: str) -> None:
        self.caller = holder[:_KEPT]

    def asks(self, model: str, version: str) -> None:
        """The first that a stream asks counts."""
        if not self.model:
            self.model = model[:_KEPT]
            self.version = version[:_KEPT]

    def infers(self, request: InferenceRequest) -> None:
        self.asks(request.model_name, request.model_version)
        self.inference_id = request.id[:_KEPT]

    def inferred(self, response: InferenceResponse) -> None:
        self.version = response.model_version

    def failed(self, error: BaseException) -> None:
        self.error = type(error).__name__

    def answered(self, code: int | str, bytes_out: int = 0) -> None:
        """The answer leaves. What is told later does not count."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        self.code = code
        self.bytes_out += bytes_out
        self.time_s = time.time()
        self.duration_ns = time.monotonic_ns() - self._start_ns
        if self.trace is not None:
            self.trace_id = self.trace.trace_id
            self.trace = None
        keeper.add(self)

    @property
    def is_error(self) -> bool:
        return self.code >= 400 if isinstance(self.code, int) else self.code != "OK"
