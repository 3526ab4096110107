import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ortolan.errors import AlreadyExists, Internal, NotFound, Unavailable
from ortolan.replicas.channel import Channel, Gone, receive_now, send_now

WITHIN_S = 10


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends; each answers with its own name before what it was asked."""
    ends = socket.socketpair()
    channels = [await Channel.over(end, answer_of(name)) for end, name in zip(ends, ("left", "right"), strict=True)]
    async with asyncio.timeout(WITHIN_S):
        yield channels[0], channels[1]
    for channel in channels:
        channel.close()
        await channel.ended()


def answer_of(own: str) -> Any:
    async def answer(name: str, arguments: Sequence[Any]) -> Any:
        if name == "missing":
            raise NotFound("there is none")
        if name == "fault":
            raise ZeroDivisionError
        if name == "never":
            await asyncio.Event().wait()
        return [own, name, *arguments]

    return answer


async def test_both_ends_ask_and_answer_beside_each_other() -> None:
    async with joined() as (left, right):
        calls = [left.call("a", index, b"x" * 100_000) for index in range(20)] + [right.call("b", i) for i in range(20)]
        answers = await asyncio.gather(*calls)
        assert answers[3] == ["right", "a", 3, b"x" * 100_000]
        assert answers[23] == ["left", "b", 3]


async def test_errors_come_back_as_what_they_are_and_faults_tell_nothing() -> None:
    async with joined() as (left, _):
        with pytest.raises(NotFound, match="there is none"):
            await left.call("missing")
        with pytest.raises(Internal, match="unexpected error"):
            await left.call("fault")


async def test_who_waits_is_told_when_the_other_end_goes() -> None:
    async with joined() as (left, right):
        waiting = asyncio.ensure_future(left.call("never"))
        assert await left.call("a") == ["right", "a"]
        right.close()
        with pytest.raises(Gone):
            await waiting
        await left.ended()
        with pytest.raises(Unavailable):
            await left.call("a")


async def test_a_caller_that_goes_disturbs_nobody() -> None:
    async with joined() as (left, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(left.call("never"), 0.01)
        assert await left.call("a") == ["right", "a"]


def test_messages_go_over_plain_sockets_as_well() -> None:
    left, right = socket.socketpair()
    with left, right:
        send_now(left, {"a": b"1"})
        send_now(left, ["second", AlreadyExists.__name__])
        assert receive_now(right) == {"a": b"1"}
        assert receive_now(right) == ["second", "AlreadyExists"]
        left.close()
        with pytest.raises(EOFError):
            receive_now(right)
