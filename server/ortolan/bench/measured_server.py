"""One server and one of its models, ready to be measured in every form, beside others or alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ortolan.bench.figures import Figures, figures
from ortolan.bench.load import Address, Form, Load, PreparedRequest
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.process_usage import listeners, with_descendants
from ortolan.bench.right_answers import with_right_answers
from ortolan.inference.request import Tensor

Inputs = Sequence[Sequence[Tensor]]
"""Those of several requests."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens, and the processes that it is made of; none where it runs on another machine."""

    name: str
    http: Address | None
    grpc: Address | None
    processes: frozenset[int] = frozenset()

    def of(self, form: Form) -> Address | None:
        return self.grpc if form is Form.GRPC else self.http


def found_at(name: str, http: Address | None, grpc: Address | None) -> Addresses:
    """A server that somebody started, with its processes if they are on this machine."""
    ports = [address.port for address in (http, grpc) if address and address.host in ("127.0.0.1", "localhost", "::1")]
    return Addresses(name, http, grpc, with_descendants(listeners(ports)))


@dataclass(frozen=True, slots=True)
class Point:
    """What is asked of a server: so many clients in a closed loop, or a rate in requests per second."""

    form: Form
    clients: int
    rate: float | None = None


@dataclass(slots=True)
class MeasuredServer:
    """A server's addresses and the requests for one model, with their right answers once they have been asked."""

    addresses: Addresses
    model: str
    inputs: Inputs
    _requests: dict[Form, tuple[PreparedRequest, ...]] = field(default_factory=dict)

    def requests(self, form: Form) -> tuple[PreparedRequest, ...]:
        """Raises StartupError when the server does not answer them."""
        if form not in self._requests:
            address = self.addresses.of(form)
            if address is None:
                raise LookupError(f"{self.addresses.name} has no address for {form.title}")
            unanswered = [prepared(form, address, self.model, each) for each in self.inputs]
            self._requests[form] = with_right_answers(address, unanswered)
        return self._requests[form]

    def figures(self, process: LoadProcess, point: Point, seconds: float, warm_up_s: float) -> Figures:
        """What the server does at ``point``. Raises StartupError when it cannot be talked to."""
        requests = self.requests(point.form)
        address = self.addresses.of(point.form)
        if address is None:
            raise LookupError(f"{self.addresses.name} has no address for {point.form.title}")
        watched = self.addresses.processes
        load = Load(address, requests, point.clients, seconds, warm_up_s, point.rate, watched=watched)
        return figures(process.outcome(load))


def capacity(closed: Mapping[int, Figures]) -> float:
    """The most requests per second over all numbers of clients."""
    return max((each.requests_per_s for each in closed.values()), default=0.0)
