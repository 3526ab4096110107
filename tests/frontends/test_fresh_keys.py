import asyncio
import threading

import pytest
from issuers import NOW_S, ec_key, key_set

from ortolan.frontends.access.fresh_keys import FreshKeys, Pace, in_daemon_thread
from ortolan.frontends.access.key_fetching import KeysUnavailable

KEY = ec_key()


class Source:
    """Gives ``document`` when ``may_answer`` is set."""

    shown = "the source"

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.reads = 0

    def read(self, _within_s: float) -> bytes:
        self.reads += 1
        self.may_answer.wait(20)
        return self.document


def fresh_keys(source: Source, pace: Pace) -> FreshKeys:
    return FreshKeys(source, pace, lambda: NOW_S)


@pytest.mark.parametrize(
    ("failures", "delay_s"),
    [(0, 600), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10_000, 60)],
)
def test_after_failures_keys_are_fetched_again_soon_and_then_less_often(failures: int, delay_s: float) -> None:
    assert Pace().delay_s(failures) == delay_s


async def test_the_same_document_is_the_same_set_of_keys() -> None:
    source = Source(key_set(KEY))
    keys = fresh_keys(source, Pace())
    assert keys.at(NOW_S) is None
    await keys.refresh()
    first = keys.at(NOW_S)
    await keys.refresh()
    assert keys.at(NOW_S) is first
    source.document = key_set(KEY, ec_key("another"))
    await keys.refresh()
    assert keys.at(NOW_S) is not first


async def test_an_empty_set_takes_all_keys_away(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(key_set(KEY))
    keys = fresh_keys(source, Pace())
    await keys.refresh()
    source.document = b'{"keys":[{"kty":"oct","kid":"s"}]}'
    await keys.refresh()
    found = keys.at(NOW_S)
    assert found is not None
    assert not found.keys
    assert "keys of tokens: the source has 0; left out: 's' is of no type that verifies tokens here" in caplog.text


async def test_a_source_that_hangs_has_one_thread_and_what_it_says_late_counts() -> None:
    source = Source(key_set(KEY))
    source.may_answer.clear()
    keys = fresh_keys(source, Pace(attempt_s=0.05))
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="the source does not answer in time"):
            await keys.refresh()
    source.may_answer.set()
    async with asyncio.timeout(20):
        while keys.at(NOW_S) is None:
            await keys.try_refresh()
    assert source.reads == 1


async def test_a_wish_waits_until_the_gap_is_over_and_is_then_fulfilled_once() -> None:
    source = Source(key_set(KEY))
    keys = fresh_keys(source, Pace(least_gap_s=0.05))
    await keys.refresh()
    task = asyncio.create_task(keys.keep())
    try:
        source.document = key_set(KEY, ec_key("another"))
        first = keys.at(NOW_S)
        for _ in range(100):
            keys.want_newer()
        async with asyncio.timeout(20):
            while keys.at(NOW_S) is first:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
        assert source.reads == 2
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=10)


async def test_a_wish_within_the_gap_fetches_nothing() -> None:
    source = Source(key_set(KEY))
    keys = fresh_keys(source, Pace())
    await keys.refresh()
    task = asyncio.create_task(keys.keep())
    for _ in range(50):
        keys.want_newer()
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert source.reads == 1


async def test_what_a_daemon_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)
