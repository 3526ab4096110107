"""How much of a stream may be inside before its next request is read."""

import asyncio

import pytest

from ortolan.frontends.grpc.stream_room import FIRST_GUESS_BYTES, MOST_INSIDE, StreamRoom


def entered(room: StreamRoom, request_bytes: int) -> int:
    """How many requests of a size get in before there is no room."""
    count = 0
    while room.has_room:
        room.enter(request_bytes)
        count += 1
    return count


@pytest.mark.parametrize(
    ("most_bytes", "request_bytes", "expected", "reason"),
    [
        (64 * FIRST_GUESS_BYTES, 1, 64, "answers are not known yet"),
        (64 * FIRST_GUESS_BYTES, 16 * FIRST_GUESS_BYTES, 4, "requests are larger than answers are taken for"),
        (10, 100, 1, "one always may"),
    ],
)
def test_so_many_are_begun_before_the_first_answer(
    most_bytes: int, request_bytes: int, expected: int, reason: str
) -> None:
    assert entered(StreamRoom(most_bytes), request_bytes) == expected, reason


def test_small_answers_open_the_way_to_the_most_requests() -> None:
    room = StreamRoom()
    for _ in range(50):
        room.enter(1)
        room.answer(1, 100)
        room.leave(100)
    assert entered(room, 1) == MOST_INSIDE


def test_unsent_answers_and_those_to_come_take_room_until_they_are_handed_over() -> None:
    room = StreamRoom(most_bytes=10 << 20)
    room.enter(1)
    room.answer(1, 4 << 20)
    assert entered(room, 1) == 2  # 4 MiB are there, and two times as many are to come
    room.answer(1, 4 << 20)
    room.answer(1, 4 << 20)
    assert not room.has_room
    room.leave(4 << 20)
    assert room.has_room


@pytest.mark.parametrize("answer_bytes", [1, 1 << 30])
async def test_who_waits_goes_on_when_the_last_answer_was_handed_over(answer_bytes: int) -> None:
    room = StreamRoom(most_bytes=1)
    room.enter(1)
    waiting = asyncio.create_task(room.free())
    await asyncio.sleep(0)
    room.answer(1, answer_bytes)
    await asyncio.sleep(0)
    assert not waiting.done()
    room.leave(answer_bytes)
    await asyncio.wait_for(waiting, 5)
