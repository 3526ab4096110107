"""Every method of the gRPC port, whatever transport is below."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ortolan.core.access_log import AccessLog
from ortolan.core.error_responses import ErrorResponses
from ortolan.core.inference_core import InferenceCore
from ortolan.core.request_note import RequestNote
from ortolan.frontends.access.admission import admit
from ortolan.frontends.access.grants import ANYBODY
from ortolan.frontends.access.operations import CHANGES, OPERATIONS, Concern, Operation
from ortolan.frontends.access.permission import check_before, check_either
from ortolan.frontends.deadlines import deadline_after
from ortolan.frontends.grpc.call import Call, Method
from ortolan.frontends.grpc.direct_inferences import DirectInferences
from ortolan.frontends.grpc.health import HealthService
from ortolan.frontends.grpc.inference_stream import InferenceStreams
from ortolan.frontends.grpc.noted import trailers_of
from ortolan.frontends.grpc.options import GrpcOptions
from ortolan.frontends.grpc.reflected import Reflection
from ortolan.frontends.grpc.service import InferenceService
from ortolan.frontends.grpc.settings import SettingsService
from ortolan.frontends.grpc.shared_memory import SharedMemoryService
from ortolan.frontends.tls.identity import PeerIdentity
from ortolan.protocol import protobuf_messages as messages
from ortolan.protocol.serialized import Raw, Serialized

StreamMethod = Callable[[AsyncIterator[Raw], Call], AsyncGenerator[Serialized, None]]
"""From any number of requests to any number of responses."""


@dataclass(frozen=True, slots=True)
class MethodName:
    """A method's names."""

    service: str
    method: str
    operation: Operation

    @property
    def category(self) -> str:
        """Triton's; "" for none."""
        return self.operation.category

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method}"

    @property
    def is_probe(self) -> bool:
        """Whether it asks for readiness: to be told no is no error of a service that starts or stops."""
        return self.operation.category == "health"


@dataclass(frozen=True, slots=True)
class UnaryRpc:
    name: MethodName
    run: Method
    direct: DirectInferences | None = None
    """Who may answer without it."""


@dataclass(frozen=True, slots=True)
class StreamRpc:
    name: MethodName
    run: StreamMethod


Rpc = UnaryRpc | StreamRpc


class Methods:
    """The methods of a port, and what is done for each call before its method sees it."""

    def __init__(
        self,
        rpcs: Sequence[Rpc],
        options: GrpcOptions,
        end_streams: Callable[[], None],
        errors: ErrorResponses | None = None,
        log: AccessLog | None = None,
    ) -> None:
        """``end_streams`` lets streams answer what they have read, and end: for when the server stops.

        ``errors``: where calls that fail are counted; ``log``: who keeps notes of all.
        """
        self.log = log
        self.errors = errors or ErrorResponses()
        self.all = tuple(rpcs)
        self.end_streams = end_streams
        self._restrictions = options.restrictions
        self._access = options.access
        self._guards = options.access.guards
        self._forwarding = options.forwarding

    def call(
        self,
        name: MethodName,
        left_s: float | None,
        metadata: tuple[tuple[str, str], ...],
        peer: Callable[[], PeerIdentity | None],
        note: RequestNote | None = None,
    ) -> Call:
        """What a method is told of a call with ``left_s`` seconds left (None: no deadline) and text ``metadata``.

        ``peer`` tells what the client's certificate proves, ``note`` is told who asks. Raises Restricted,
        Unauthenticated or Forbidden where the call is kept out.
        """
        operation = name.operation
        header = dict(reversed(metadata)).get if self._guards or self._restrictions else None
        if header is not None and self._restrictions and operation.category:
            self._restrictions.check(operation.category, header)
        grant, grant_now = ANYBODY, None
        if header is not None and self._guards and operation.scopes:
            grant_now = partial(self._access.grant, header, peer())
            grant = grant_now()
            if note is not None and not grant.is_anybodys:
                note.asked_by(grant.holder)
            # Which model it is about stands in the message, and whether anything is to change.
            if operation.name in CHANGES:
                check_either(grant, operation, CHANGES[operation.name])
            elif operation.concern is Concern.MODEL:
                check_before(grant, operation)
            else:
                admit(grant, operation, None)
        deadline_ns = deadline_after(left_s) if left_s is not None else 0
        trailers = trailers_of(note)
        return Call(deadline_ns, metadata, self._forwarding, trailers, operation, grant, grant_now, note)


def served_methods(core: InferenceCore, options: GrpcOptions) -> Methods:
    """Every method that this server has."""
    health = HealthService(core)
    streams = InferenceStreams(core)

    def end_streams() -> None:
        health.end_watches()
        streams.end()

    rpcs = [*_inference(core, streams, options), *_health(health), _reflection()]
    return Methods(rpcs, options, end_streams, core.errors, core.access_log)


def _inference(core: InferenceCore, streams: InferenceStreams, options: GrpcOptions) -> list[Rpc]:
    unary = InferenceService(core, options.timing).methods() | SettingsService(core).methods()
    unary |= SharedMemoryService(core).methods()
    # Where models are told some of a call's metadata, its message does not say all.
    direct = {} if options.forwarding else {"ModelInfer": DirectInferences(core, options.timing)}
    return [
        *(UnaryRpc(_name(messages.INFERENCE_SERVICE, name), run, direct.get(name)) for name, run in unary.items()),
        StreamRpc(_name(messages.INFERENCE_SERVICE, "ModelStreamInfer"), streams.answers),
    ]


def _health(health: HealthService) -> list[Rpc]:
    service = messages.HEALTH_SERVICE
    return [UnaryRpc(_name(service, "Check"), health.check), StreamRpc(_name(service, "Watch"), health.watch)]


def _reflection() -> Rpc:
    reflection = Reflection()
    return StreamRpc(_name(reflection.service, reflection.method), reflection.answers)


def _name(service: str, method: str) -> MethodName:
    return MethodName(service, method, OPERATIONS[method])
