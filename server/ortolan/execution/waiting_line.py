"""Who waits, in the order of service: priority levels, first in first out within each, the delayed ones after. Pure.

The rules are those of Triton's queue policies (``scheduler_utils.cc``), kept exactly where Triton acts late: a level's
``max_queue_size`` holds to the last request, and a request whose time in the queue is over is never executed.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from ortolan.errors import QueueFull
from ortolan.repository.model_config import DynamicBatching, QueuePolicy, TimeoutAction

NO_POLICY = QueuePolicy()


class Waiter(Protocol):
    """What the line has to know of a request. Times are of the monotonic clock; 0 means no limit."""

    rows: int
    size_bytes: int
    priority: int
    queue_deadline_ns: int
    enqueued_ns: int


_W = TypeVar("_W", bound=Waiter)


@dataclass(frozen=True, slots=True)
class LinePolicy:
    """The priority levels of a model and the policy of each; level 1 is served first."""

    levels: int = 1
    default_level: int = 1
    default: QueuePolicy = NO_POLICY
    by_level: Mapping[int, QueuePolicy] | None = None
    declared: bool = False
    """Whether the configuration sets a queue policy, so that Triton's rules for a request's own timeout apply."""

    @staticmethod
    def of(batching: DynamicBatching | None) -> "LinePolicy":
        if batching is None:
            return LinePolicy()
        declared = batching.default_queue_policy != NO_POLICY or bool(batching.priority_queue_policies)
        return LinePolicy(
            levels=max(1, batching.priority_levels),
            default_level=batching.default_priority_level or 1,
            default=batching.default_queue_policy,
            by_level=batching.priority_queue_policies,
            declared=declared,
        )

    def level_of(self, priority: int) -> int:
        """The level that a request's ``priority`` means; 0 and what is out of range mean the default one."""
        return priority if 1 <= priority <= self.levels else self.default_level

    def policy_of(self, level: int) -> QueuePolicy:
        return (self.by_level or {}).get(level, self.default)

    def queue_timeout_us(self, level: int, asked_us: int) -> int:
        """How long a request may wait that asks for ``asked_us`` (0: it does not ask); 0 for as long as it takes.

        Where the configuration has a queue policy, Triton's rule: the request's own counts only if it may override
        and is the shorter one. Where it has none, the request's own counts.
        """
        policy = self.policy_of(level)
        if not self.declared:
            return asked_us
        if policy.allow_timeout_override and 0 < asked_us < policy.default_timeout_us:
            return asked_us
        return policy.default_timeout_us


class _Level(Generic[_W]):
    """One priority level."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.rows = 0
        self.fresh: OrderedDict[_W, None] = OrderedDict()
        self.delayed: OrderedDict[_W, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.fresh) + len(self.delayed)

    def __iter__(self) -> Iterator[_W]:
        yield from self.fresh
        yield from self.delayed


class WaitingLine(Generic[_W]):
    """The requests that wait for one version. Bounded by requests and by the bytes of their tensors."""

    def __init__(self, policy: LinePolicy, max_requests: int, max_bytes: int) -> None:
        self._policy = policy
        self._levels = [_Level[_W](policy.policy_of(level)) for level in range(1, policy.levels + 1)]
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._count = 0
        self.rows = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_W]:
        """Every request in the order of service."""
        for level in self._levels:
            yield from level

    @property
    def oldest_ns(self) -> int:
        """When the request came that has waited longest; 0 where none waits."""
        heads = [head for level in self._levels for line in (level.fresh, level.delayed) for head in islice(line, 1)]
        return min((head.enqueued_ns for head in heads), default=0)

    def push(self, request: _W) -> None:
        """Let ``request`` wait. Raises QueueFull where a bound is reached, which counts exactly."""
        level = self._level_of(request)
        limit = level.policy.max_queue_size
        if limit and len(level) >= limit:
            raise QueueFull(f"Exceeds maximum queue size: {limit} requests wait already at this model's priority level")
        if self._count >= self._max_requests:
            raise QueueFull(
                f"Exceeds maximum queue size: {self._max_requests} requests wait already. Send fewer at a time, or "
                "retry later."
            )
        if self._count and self.size_bytes + request.size_bytes > self._max_bytes:
            raise QueueFull(
                f"Exceeds maximum queue size: the tensors that wait hold {self.size_bytes} bytes already and may hold "
                f"{self._max_bytes}. Send fewer at a time, or retry later."
            )
        level.fresh[request] = None
        level.rows += request.rows
        self._count += 1
        self.rows += request.rows
        self.size_bytes += request.size_bytes

    def remove(self, request: _W) -> None:
        """Take ``request`` out, wherever in its level it is."""
        level = self._level_of(request)
        if request in level.fresh:
            del level.fresh[request]
        else:
            del level.delayed[request]
        level.rows -= request.rows
        self._count -= 1
        self.rows -= request.rows
        self.size_bytes -= request.size_bytes

    def rows_before(self, priority: int) -> int:
        """The rows that would be served before a request of ``priority`` that came now."""
        return sum(level.rows for level in self._levels[: self._policy.level_of(priority)])

    def front(self, max_rows: int) -> list[_W]:
        """The head of the line in the order of service: as far as ``max_rows`` may reach, and one request more."""
        if self._count == 1 or max_rows <= 1:
            return list(islice(self, 2))
        head: list[_W] = []
        rows = 0
        for request in self:
            head.append(request)
            rows += request.rows
            if rows > max_rows:
                break
        return head

    def expire(self, requests: Sequence[_W], now_ns: int) -> list[_W]:
        """Apply the queue policy to those of ``requests`` whose time is over: the ones to be refused leave the line.

        Under DELAY they stay, behind the fresh ones of their level.
        """
        refused: list[_W] = []
        for request in requests:
            if not request.queue_deadline_ns or now_ns < request.queue_deadline_ns:
                continue
            level = self._level_of(request)
            if self._policy.declared and level.policy.timeout_action is TimeoutAction.DELAY:
                if request in level.fresh:
                    del level.fresh[request]
                    level.delayed[request] = None
            else:
                self.remove(request)
                refused.append(request)
        return refused

    def _level_of(self, request: _W) -> _Level[_W]:
        return self._levels[self._policy.level_of(request.priority) - 1]
