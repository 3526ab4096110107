"""A body that comes in pieces is whole afterwards, and what is too large is not even kept."""

import asyncio
import tracemalloc

import pytest

from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.incoming_body import IncomingBody

LIMIT = 100
MOST = BodyLimit(LIMIT)


@pytest.mark.parametrize("chunks", [[], [b"whole"], [b"in ", b"", b"parts"], [bytes(LIMIT)]])
async def test_chunks_become_the_body(chunks: list[bytes]) -> None:
    body = IncomingBody(None, MOST)
    for chunk in chunks:
        body.feed(chunk)
    body.complete()
    assert await body.whole() == b"".join(chunks)


async def test_a_body_in_scraps_takes_no_more_than_its_size() -> None:
    body = IncomingBody(None, BodyLimit(1 << 16))
    tracemalloc.start()
    try:
        for number in range(30_000):
            body.feed(b"%02d" % (number % 100))
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    body.complete()
    assert bytes(await body.whole()) == b"".join(b"%02d" % (number % 100) for number in range(30_000))


async def test_who_waits_gets_it_when_it_is_there() -> None:
    body = IncomingBody(None, MOST)
    waiting = asyncio.create_task(body.whole())
    await asyncio.sleep(0)
    body.feed(b"late")
    assert not waiting.done()
    body.complete()
    assert await asyncio.wait_for(waiting, 5) == b"late"


def test_it_says_how_much_is_to_come_where_that_is_known() -> None:
    assert IncomingBody(None, MOST).feed(b"12345") <= 0
    assert IncomingBody(50, MOST).feed(b"12345") == 45
    assert IncomingBody(LIMIT + 1, MOST).feed(b"12345") == 0


async def test_the_rest_is_written_where_the_beginning_is() -> None:
    body = IncomingBody(8, MOST)
    body.feed(b"12")
    body.feed(b"3")
    rest = body.buffer_for_rest()
    rest[:] = b"45678"
    body.complete()
    whole = await body.whole()
    assert isinstance(whole, memoryview)
    assert (whole.readonly, bytes(whole)) == (True, b"12345678")


@pytest.mark.parametrize(
    ("declared", "chunks"), [(LIMIT + 1, []), (None, [bytes(60), bytes(60)]), (None, [bytes(101)])]
)
async def test_a_body_over_the_limit_is_refused_before_it_is_complete(
    declared: int | None, chunks: list[bytes]
) -> None:
    body = IncomingBody(declared, MOST)
    for chunk in chunks:
        body.feed(chunk)
    with pytest.raises(InvalidArgument, match="--http-max-input-size"):
        await asyncio.wait_for(body.whole(), 5)


async def test_who_waits_for_a_body_that_grows_too_large_is_told_at_once() -> None:
    body = IncomingBody(None, MOST)
    waiting = asyncio.create_task(body.whole())
    await asyncio.sleep(0)
    body.feed(bytes(LIMIT + 1))
    with pytest.raises(InvalidArgument):
        await asyncio.wait_for(waiting, 5)
