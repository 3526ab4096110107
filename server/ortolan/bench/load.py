"""What is to be sent and what came of it, as data that can go to another process and come back."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from ortolan.bench.process_usage import Usage


class Form(Enum):
    """The forms in which a request can travel; values are what people write and read."""

    BINARY = "http"
    JSON = "json"
    GRPC = "grpc"

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {Form.BINARY: "HTTP binary", Form.JSON: "HTTP JSON", Form.GRPC: "gRPC"}


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One request as bytes, and the answer that it must get.

    ``head``: of HTTP/1.1 up to the empty line, of gRPC the encoded header block. ``body``: of gRPC one message.
    """

    form: Form
    head: bytes
    body: bytes
    answer: bytes | None = None
    """The body of a right answer; None where answers are not compared, because the model's differ by themselves."""
    same_length: bool = False
    """Whether all right answers have the length of ``answer``."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send where. The requests take turns; each connection has up to ``streams`` requests under way.

    ``rate`` in requests per second makes it an open loop: requests are due at random moments, whether or not earlier
    ones were answered, and latencies count from those moments. Without it a request follows each answer.
    """

    address: Address
    requests: tuple[PreparedRequest, ...]
    connections: int
    seconds: float
    warm_up_s: float = 0.3
    rate: float | None = None
    streams: int = 1
    patience_s: float = 10.0
    """How long is waited for answers that are missing at the end."""
    seed: int = 1
    watched: frozenset[int] = frozenset()
    """The processes whose CPU time is read at the beginning and the end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load after its warm-up; durations in seconds.

    ``answered``: right answers that came within ``seconds``. ``latencies``: those of right answers; in an open loop
    also of those that came later, without which the figures would look better than what clients met. ``failed``:
    latencies of other answers, by what they were, such as "503". ``unanswered``: no answer within ``patience_s``, the
    load's.
    """

    seconds: float
    answered: int
    latencies: "array[float]"
    failed: Mapping[str, "array[float]"] = field(default_factory=dict)
    unanswered: int = 0
    patience_s: float = 0.0
    compared: int = 0
    own_cpu_s: float = 0.0
    before: Usage | None = None
    after: Usage | None = None
