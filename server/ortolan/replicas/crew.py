"""The replicas that do what clients ask: all of them, or none as far as that can be.

A replica that joins later is first brought to where the others are. What clients ask of one model is done in the order
in which they asked.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from ortolan.core.version_totals import Totals, added, added_errors, read_totals
from ortolan.errors import OrtolanError, Unavailable
from ortolan.replicas.channel import Gone, Leaving
from ortolan.replicas.journal import LOADS, SETTINGS, Entry, Journal, subject_of
from ortolan.replicas.replica_process import ReplicaProcess
from ortolan.replicas.shared_answer import READINESS_KEPT_S, SharedAnswer

_log = logging.getLogger(__name__)

READINESS, TOTALS, INDEX = "readiness", "totals", "index"
# A process that does not answer within this cannot answer requests either.
_PATIENCE_S = 2.0
# Of loads, which may take long, and as many of all else.
_MOST_WAITING = 64
_UNDONE_BY = {"load": "unload", "place": "displace", "register_system": "unregister", "register_cuda": "unregister"}


class Crew:
    """Lives on the event loop of the supervisor."""

    def __init__(self, note: Callable[[str, Sequence[Any]], None]) -> None:
        """``note`` is called with everything that was done in all replicas."""
        self.members: list[ReplicaProcess] = []
        self.complete = False
        """Whether every replica has joined once: until then the server is not ready."""
        self.restarts = 0
        self._note = note
        self._journal = Journal()
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: Counter[str] = Counter()
        self._readiness = SharedAnswer(lambda: self._ask_all(READINESS), READINESS_KEPT_S)
        self._left: Totals = {}
        self._left_errors: dict[str, dict[str, int]] = {}

    # -- joining and leaving -------------------------------------------------------------------------------------

    async def join(self, replica: ReplicaProcess) -> None:
        """Bring the replica to where the others are, as far as that can be; from then on it is one of them.

        Raises Gone when it ends meanwhile.
        """
        seen = await self._catch_up(replica, 0)
        async with self._order(SETTINGS):
            for entry in self._journal.settings():
                await self._follow(replica, entry)
            await self._catch_up(replica, seen)
            self.members.append(replica)

    def leave(self, replica: ReplicaProcess) -> None:
        """It has ended; what it counted stays, as far as it told that."""
        if replica in self.members:
            self.members.remove(replica)
            versions = replica.told.get("versions", {})
            gone = {key: numbers.counted_only() for key, numbers in read_totals(versions).items()}
            self._left = added((self._left, gone))
            self._left_errors = added_errors((self._left_errors, replica.told.get("errors", {})))

    async def _catch_up(self, replica: ReplicaProcess, seen: int) -> int:
        """Load and unload what the others did after ``seen``; there is no more when this returns what it saw last."""
        while entries := self._journal.loads_since(seen):
            for entry in entries:
                await self._follow(replica, entry)
                seen = entry.number
        return seen

    async def _follow(self, replica: ReplicaProcess, entry: Entry) -> None:
        try:
            await replica.act(entry.action, entry.arguments)
        except Gone:
            raise
        except OrtolanError as error:
            # A model's files may be gone since, and so may a client's memory. That is no reason not to serve others.
            _log.warning("replica %d cannot follow '%s' of the others: %s", replica.number, entry.action, error)

    async def missing_in(self, replica: ReplicaProcess) -> list[str]:
        """What another has ready and the replica has not, as "NAME version NUMBER"."""
        others = [member for member in self.members if member is not replica]
        own, *indexes = await asyncio.gather(*(self._answer(member, INDEX) for member in (replica, *others)))
        ready = {(name, number) for index in indexes for name, number, state, _ in index or () if state == "READY"}
        ready -= {(name, number) for name, number, state, _ in own or () if state == "READY"}
        return [f"{name} version {number}" for name, number in sorted(ready)]

    # -- for the replicas ----------------------------------------------------------------------------------------

    async def perform(self, action: str, arguments: Sequence[Any]) -> None:
        """Have it done in all replicas. Raises what the first one raises, and then nothing has changed."""
        kind = "loads and unloads" if action in LOADS else "changes of settings"
        if self._waiting[kind] >= _MOST_WAITING:
            raise Unavailable(f"{_MOST_WAITING} {kind} wait already, which is as many as may; retry later")
        self._waiting[kind] += 1
        try:
            async with self._order(subject_of(action, arguments)):
                await self._perform(action, arguments)
        finally:
            self._waiting[kind] -= 1

    async def gather(self, question: str) -> list[Any]:
        """What each replica says; None for one that does not answer in time."""
        if question != READINESS:
            return await self._ask_all(question)
        return await self._readiness.get() if self.complete else [None]

    async def _ask_all(self, question: str) -> list[Any]:
        asked = [member for member in self.members if question != READINESS or member.serves]
        answers = list(await asyncio.gather(*(self._answer(member, question) for member in asked)))
        if question == TOTALS:
            answers.append({"versions": self._left, "errors": self._left_errors, "restarts": self.restarts})
        return answers

    async def _answer(self, member: ReplicaProcess, question: str) -> Any:
        try:
            answer = await asyncio.wait_for(member.act(question, ()), _PATIENCE_S)
        except Gone:
            return "leaving" if question == READINESS else None
        except TimeoutError:
            return member.told if question == TOTALS and member.told else None
        if question == TOTALS:
            member.told = answer
        return answer

    def _order(self, subject: str) -> asyncio.Lock:
        return self._orders.setdefault(subject, asyncio.Lock())

    async def _perform(self, action: str, arguments: Sequence[Any]) -> None:
        """First in one replica: what cannot be done fails there, and what crashes a process ends only that one."""
        first, served_before = await self._in_first(action, arguments)
        done, failed = {first}, list[tuple[ReplicaProcess, OrtolanError]]()
        while todo := [member for member in self.members if member not in done and not member.leaves]:
            failed += await self._in_others(todo, action, arguments)
            done |= {*todo}
        if not failed:
            self._journal.note(action, arguments)
            self._note(action, arguments)
            if action in LOADS:
                # What is loaded anew counts anew.
                self._left = {k: v for k, v in self._left.items() if not k.startswith(f"{arguments[0]}/")}
            return
        await self._take_back(action, arguments, served_before)
        replica, error = failed[0]
        raise type(error)(f"in one of the server's processes only (replica {replica.number}): {error.message}")

    async def _in_first(self, action: str, arguments: Sequence[Any]) -> tuple[ReplicaProcess, Any]:
        """The one in which it was done, and what that returned; one that leaves does nothing, so another does."""
        refusal = Unavailable("the server starts or stops, and changes nothing now; retry later")
        for first in tuple(self.members):
            if first.leaves:
                continue
            try:
                return first, await first.act(action, arguments)
            except Leaving as leaving:
                refusal = Unavailable(leaving.message)
            except Gone:
                refusal = Unavailable(f"the process that was to {action} first has ended meanwhile; nothing changed")
                if not await _ended_well(first):
                    break
        raise refusal

    async def _in_others(
        self, others: Sequence[ReplicaProcess], action: str, arguments: Sequence[Any]
    ) -> list[tuple[ReplicaProcess, OrtolanError]]:
        """Those that failed, and why; one that has ended, or leaves, will catch up as another."""
        outcomes = await asyncio.gather(*(other.act(action, arguments) for other in others), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, OrtolanError):
                raise outcome
        pairs = [(other, each) for other, each in zip(others, outcomes, strict=True) if not isinstance(each, Gone)]
        return [(other, error) for other, error in pairs if isinstance(error, OrtolanError)]

    async def _take_back(self, action: str, arguments: Sequence[Any], served_before: object) -> None:
        """Where nothing was before nothing is to be left; what replaced something stays where it succeeded."""
        undo = _UNDONE_BY.get(action)
        if undo is None or (action == "load" and served_before):
            return
        name = arguments[0]
        back: list[Any] = [action.removeprefix("register_"), name] if undo == "unregister" else [name, {}]
        await self._in_others(self.members, undo, back)


async def _ended_well(replica: ReplicaProcess) -> bool:
    """Whether it has ended because it was to, and not of what it was asked for."""
    try:
        return await asyncio.wait_for(replica.ended(), _PATIENCE_S) == 0
    except TimeoutError:
        return False
