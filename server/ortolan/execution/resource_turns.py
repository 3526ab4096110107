"""Who may run next where instances share resources: the account of ``--rate-limit=execution_count``. Pure.

Triton's rule (``rate_limiter.cc``): an instance runs while it holds what it needs; of those that wait, the one with the
lowest count of executions times priority goes first. Where Triton lets nobody pass who waits behind the first, only
those wait here that need something of it. And an instance that was idle, or is new, starts at the present count: it can
neither hoard turns nor keep the others from theirs until it has caught up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ortolan.errors import InvalidArgument

EVERYWHERE = -1
"""The device of a resource of which the whole server has one pool."""

ResourceKey = tuple[int, str]
"""The number of a device, and a name. Instances on the CPU count as device 0, as in Triton."""


@dataclass(frozen=True, slots=True)
class DeclaredResource:
    """``--rate-limit-resource``: ``count`` copies on ``device``, or on each where that is None."""

    name: str
    count: int
    device: int | None = None


@dataclass(slots=True, eq=False)
class ResourceUser:
    """One instance's account."""

    name: str
    needs: Mapping[ResourceKey, int]
    priority: int = 1
    used: int = 0
    """Its executions, each counted ``priority`` times."""
    active: int = 0
    """Its turns that are held or waited for."""


@dataclass(slots=True, eq=False)
class ResourceTurn:
    """One run's way: it waits, then holds what its user needs, until it is over."""

    user: ResourceUser
    order: int
    held: bool = False
    over: bool = False


class ResourceTurns:
    """The account of all resources of a server."""

    def __init__(self, declared: Sequence[DeclaredResource] = ()) -> None:
        """Without any ``declared`` there is of each resource as much as the instance asks for that needs most."""
        self._declared = tuple(declared)
        self._users: dict[ResourceUser, None] = {}
        self._limits: Mapping[ResourceKey, int] = {}
        self._taken: dict[ResourceKey, int] = {}
        self._waiting: list[ResourceTurn] = []
        self._held: list[ResourceTurn] = []
        self._order = 0
        self._present = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def admit(self, users: Iterable[ResourceUser]) -> None:
        """Let ``users`` ask for turns. Raises InvalidArgument, and admits none, when one could never run."""
        admitted = {**self._users, **dict.fromkeys(users)}
        self._limits = self._limits_for(admitted)
        self._users = admitted

    def dismiss(self, users: Iterable[ResourceUser]) -> list[ResourceTurn]:
        """``users`` ask no more; the turns that they still had, which are over."""
        leaving = set(users)
        self._users = {user: None for user in self._users if user not in leaving}
        self._limits = self._limits_for(self._users)
        left = [turn for turn in (*self._held, *self._waiting) if turn.user in leaving]
        for turn in left:
            self.give_back(turn, ran=False)
        return left

    def ask(self, user: ResourceUser) -> ResourceTurn:
        """A turn of ``user``, which waits; ``let_in`` tells whose may start."""
        if user.active == 0:
            user.used = max(user.used, self._present)
        user.active += 1
        self._order += 1
        turn = ResourceTurn(user, self._order)
        self._waiting.append(turn)
        return turn

    def give_back(self, turn: ResourceTurn, ran: bool) -> None:
        """``turn`` is over; it counts if something ``ran`` in it. A second time does nothing."""
        if turn.over:
            return
        turn.over = True
        turn.user.active -= 1
        if not turn.held:
            self._waiting.remove(turn)
            return
        self._held.remove(turn)
        turn.user.used += turn.user.priority if ran else 0
        for key, count in turn.user.needs.items():
            self._taken[key] -= count

    def let_in(self) -> list[ResourceTurn]:
        """The turns that start now, in order: nobody takes what another needs who waits before it."""
        found: list[ResourceTurn] = []
        reserved: set[ResourceKey] = set()
        for turn in sorted(self._waiting, key=lambda turn: (turn.user.used, turn.order)):
            needs = turn.user.needs
            if reserved.isdisjoint(needs) and self._free(turn.user):
                self._start(turn)
                found.append(turn)
            else:
                reserved.update(needs)
        return found

    def _free(self, user: ResourceUser) -> bool:
        limits = self._limits
        return all(self._taken.get(key, 0) + count <= limits.get(key, count) for key, count in user.needs.items())

    def _start(self, turn: ResourceTurn) -> None:
        turn.held = True
        self._waiting.remove(turn)
        self._held.append(turn)
        self._present = max(self._present, turn.user.used)
        for key, count in turn.user.needs.items():
            self._taken[key] = self._taken.get(key, 0) + count

    def _limits_for(self, users: Iterable[ResourceUser]) -> Mapping[ResourceKey, int]:
        most: dict[ResourceKey, int] = {}
        for user in users:
            for key, count in user.needs.items():
                most[key] = max(count, most.get(key, 0))
        _refuse_two_scopes(most)
        return {key: self._limit(key, count) for key, count in most.items()} if self._declared else most

    def _limit(self, key: ResourceKey, needed: int) -> int:
        """How much there is of what the operator declared. Raises InvalidArgument when ``needed`` is more."""
        device, name = key
        counts = [each.count for each in self._declared if each.name == name and _serves(each.device, device)]
        there = max(counts, default=0)
        if there < needed:
            where = "" if device == EVERYWHERE else f" on device {device}"
            raise InvalidArgument(
                f'Resource count for "{name}" is limited to {there}{where} which will prevent scheduling of one or '
                f"more model instances, the minimum required count is {needed}. Start the server with "
                f"--rate-limit-resource={name}:{needed}, or ask for less in instance_group.rate_limiter."
            )
        return there


def _serves(declared: int | None, device: int) -> bool:
    # A resource of the whole server is found wherever it was declared.
    return device == EVERYWHERE or declared is None or declared == device


def _refuse_two_scopes(needs: Mapping[ResourceKey, int]) -> None:
    shared = {name for device, name in needs if device == EVERYWHERE}
    both = next((name for device, name in needs if device != EVERYWHERE and name in shared), None)
    if both is not None:
        raise InvalidArgument(
            f'Resource "{both}" is present as both global and device-specific resource in the model configuration. '
            "Write global: true wherever it is used, or nowhere."
        )
