"""What a port may hold for its clients, and who gives way."""

import pytest

from ortolan.frontends.held_bytes import HeldBytes


class Client:
    """Holds calls of the sizes that it is given; the largest goes first."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sorted(sizes)

    @property
    def held_bytes(self) -> int:
        return sum(self.sizes)

    def let_go(self) -> int:
        self.sizes.pop()
        return self.held_bytes


@pytest.mark.parametrize(
    ("most", "clients", "left"),
    [
        (100, [[40], [60]], [[40], [60]]),
        (100, [[40], [61]], [[40], []]),
        (100, [[10, 30, 50], [20]], [[10, 30], [20]]),
        (100, [[90], [5], [6]], [[], [5], [6]]),
        (100, [[101]], [[]]),
        (50, [[20, 20], [25, 25]], [[20], [25]]),
    ],
)
def test_who_holds_most_gives_way_until_there_is_room(
    most: int, clients: list[list[int]], left: list[list[int]]
) -> None:
    held = HeldBytes(most)
    holders = [Client(*sizes) for sizes in clients]
    for holder in holders:
        held.tell(holder, holder.held_bytes)
    assert [holder.sizes for holder in holders] == left
    assert held.total_bytes == sum(map(sum, left)) <= most


def test_what_is_no_longer_held_makes_room() -> None:
    held = HeldBytes(100)
    first, second = Client(90), Client(90)
    held.tell(first, 90)
    held.tell(first, 0)
    held.tell(second, 90)
    assert (first.sizes, second.sizes, held.total_bytes) == ([90], [90], 90)
