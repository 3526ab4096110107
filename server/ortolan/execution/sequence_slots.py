"""Which slot each sequence has, which of its requests is next, who waits for a slot. Pure: the clock comes as numbers.

A *lane* runs one batch at a time and has a fixed number of rows; a *slot* is a row of a lane. Under Triton's direct
strategy a lane is an instance, under oldest each candidate sequence is a lane of its own. The rules are those of
Triton's ``sequence_batch_scheduler.cc``, and one that it lacks: a sequence that loses a request, because its client
went or its time was over, ends there; to go on without it would give an answer that is wrong and does not look so.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ortolan.errors import InvalidArgument
from ortolan.execution.graph_request import SequenceId, SequenceTerms
from ortolan.execution.sequence_state import State
from ortolan.inference.printable import printable

_SHOWN_ID_CHARACTERS = 128


class Item(Protocol):
    """What has to be known of a request."""

    @property
    def terms(self) -> SequenceTerms: ...

    @property
    def size_bytes(self) -> int: ...


_R = TypeVar("_R", bound=Item)


@dataclass(slots=True, eq=False)
class LiveSequence(Generic[_R]):
    """One sequence that is not over."""

    id: SequenceId
    lane: int = -1
    """-1 while it waits for a slot."""
    row: int = 0
    waiting: deque[_R] = field(default_factory=deque)
    running: _R | None = None
    """The one of its requests that is being executed, if one is."""
    open: bool = True
    """Whether further requests belong to it."""
    state: State = field(default_factory=dict)
    """What the model has kept of it, by input."""


class SequenceSlots(Generic[_R]):
    """The live sequences of one version: ``lanes`` × ``rows`` of them in slots, the others in a backlog."""

    def __init__(self, model_name: str, lanes: int, rows: int, max_idle_ns: int) -> None:
        self._model_name = model_name
        self._lanes = lanes
        self._rows = rows
        self._max_idle_ns = max_idle_ns
        self._by_id: dict[SequenceId, LiveSequence[_R]] = {}
        self._occupied: dict[int, dict[int, LiveSequence[_R]]] = {}
        self._backlog: OrderedDict[LiveSequence[_R], None] = OrderedDict()
        self._idle: OrderedDict[LiveSequence[_R], int] = OrderedDict()
        # Slots are numbered row by row over all lanes, so that the lowest number is the lowest row of any lane.
        self._unused = 0
        self._freed: list[int] = []
        self.waiting = 0
        """Requests that wait."""
        self.waiting_bytes = 0

    @property
    def live(self) -> int:
        """Sequences that have started and have not ended."""
        return len(self._by_id)

    @property
    def backlog(self) -> int:
        """Sequences that wait for a slot."""
        return len(self._backlog)

    @property
    def lanes_used(self) -> int:
        """The number of the highest lane that ever had a sequence, plus one."""
        return min(self._unused, self._lanes)

    @property
    def next_expiry_ns(self) -> int | None:
        """When the sequence that has been idle for longest will have been so for too long."""
        return next(iter(self._idle.values())) + self._max_idle_ns if self._idle else None

    def is_live(self, sequence_id: SequenceId) -> bool:
        """Whether further requests with this id belong to a sequence that has started."""
        return sequence_id in self._by_id

    def waiting_requests(self) -> list[_R]:
        """Every request that waits, in a slot or for one."""
        everyone = [*self._backlog, *(each for rows in self._occupied.values() for each in rows.values())]
        return [request for sequence in everyone for request in sequence.waiting]

    def sequences(self, lane: int) -> Mapping[int, LiveSequence[_R]]:
        """The sequences in the slots of ``lane``, by row."""
        return self._occupied.get(lane, {})

    def admit(self, request: _R) -> LiveSequence[_R]:
        """Let ``request`` wait as the last of its sequence, which it may start.

        Raises InvalidArgument when it should have started it and does not say so.
        """
        terms = request.terms
        sequence = self._by_id.get(terms.id)
        if sequence is None:
            if not terms.start:
                raise InvalidArgument(
                    f"inference request for sequence {shown_id(terms.id)} to model '{self._model_name}' must specify "
                    "the START flag on the first request of the sequence"
                )
            sequence = self._by_id[terms.id] = LiveSequence(terms.id)
            self._place(sequence)
        self._idle.pop(sequence, None)
        sequence.waiting.append(request)
        self.waiting += 1
        self.waiting_bytes += request.size_bytes
        if terms.end:
            self._close(sequence)
        return sequence

    def take(self, sequence: LiveSequence[_R]) -> _R:
        """The next request of ``sequence``, which runs from now on until ``done``."""
        request = sequence.running = sequence.waiting.popleft()
        self._count_out(request)
        return request

    def done(self, sequence: LiveSequence[_R], now_ns: int) -> None:
        """The request that was taken is over. The slot of a sequence that has ended goes to the next one."""
        sequence.running = None
        self._settle(sequence, now_ns)

    def lose(self, sequence: LiveSequence[_R], request: _R, now_ns: int) -> list[_R]:
        """``request`` will not be, or may not have been, executed: the sequence ends with what came before it.

        The requests behind it, which are returned, are lost with it; but not those from the next start on. One that is
        over already, or was lost with another, takes none along.
        """
        everyone = list(sequence.waiting)
        if request is sequence.running:
            before, behind = [], everyone
        elif request in everyone:
            place = everyone.index(request)
            before, behind = everyone[:place], everyone[place + 1 :]
            self._count_out(request)
        else:
            return []
        count = next((i for i, each in enumerate(behind) if each.terms.start), len(behind))
        lost, kept = behind[:count], behind[count:]
        sequence.waiting = deque(before + kept)
        for each in lost:
            self._count_out(each)
        if not kept:
            self._close(sequence)
        self._settle(sequence, now_ns)
        return lost

    def reclaim(self, now_ns: int) -> list[LiveSequence[_R]]:
        """End the sequences of which nothing was heard for too long, and return them; their slots go to the next."""
        found: list[LiveSequence[_R]] = []
        while self._idle:
            sequence, since_ns = next(iter(self._idle.items()))
            if now_ns - since_ns < self._max_idle_ns:
                break
            found.append(sequence)
            self._close(sequence)
            self._settle(sequence, now_ns)
        return found

    def close_all(self, now_ns: int) -> None:
        """No request will come any more: every sequence ends with what waits of it."""
        for sequence in list(self._by_id.values()):
            self._close(sequence)
            self._settle(sequence, now_ns)

    def _count_out(self, request: _R) -> None:
        self.waiting -= 1
        self.waiting_bytes -= request.size_bytes

    def _close(self, sequence: LiveSequence[_R]) -> None:
        sequence.open = False
        if self._by_id.get(sequence.id) is sequence:
            del self._by_id[sequence.id]

    def _settle(self, sequence: LiveSequence[_R], now_ns: int) -> None:
        """Where nothing of ``sequence`` runs or waits: it is idle, or over."""
        if sequence.running is not None or sequence.waiting:
            return
        if sequence.open:
            self._idle[sequence] = now_ns
            self._idle.move_to_end(sequence)
            return
        self._idle.pop(sequence, None)
        if sequence.lane == -1:
            self._backlog.pop(sequence, None)
        else:
            self._release(sequence)

    # -- slots -------------------------------------------------------------------------------------------------------

    def _place(self, sequence: LiveSequence[_R]) -> None:
        if self._freed:
            self._occupy(sequence, heapq.heappop(self._freed))
        elif self._unused < self._lanes * self._rows:
            self._occupy(sequence, self._unused)
            self._unused += 1
        else:
            self._backlog[sequence] = None

    def _occupy(self, sequence: LiveSequence[_R], slot: int) -> None:
        sequence.row, sequence.lane = divmod(slot, self._lanes)
        self._occupied.setdefault(sequence.lane, {})[sequence.row] = sequence

    def _release(self, sequence: LiveSequence[_R]) -> None:
        slot = sequence.row * self._lanes + sequence.lane
        rows = self._occupied[sequence.lane]
        if rows.get(sequence.row) is not sequence:
            return
        del rows[sequence.row]
        if self._backlog:
            self._occupy(self._backlog.popitem(last=False)[0], slot)
        else:
            heapq.heappush(self._freed, slot)


def shown_id(sequence_id: SequenceId) -> str:
    """The id as it may stand in messages and log lines."""
    return printable(str(sequence_id), _SHOWN_ID_CHARACTERS)
