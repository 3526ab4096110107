import asyncio

import pytest

from ortolan.errors import Unavailable
from ortolan.replicas.shared_answer import SharedAnswer

LONG_S = 60.0


class Question:
    """Counts how often it is asked, and is answered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: asyncio.Queue[int | Exception] = asyncio.Queue()

    async def ask(self) -> int:
        self.asked += 1
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_those_who_ask_while_one_asks_get_the_same_answer() -> None:
    question = Question()
    shared = SharedAnswer(question.ask, kept_s=0.0)
    asking = [asyncio.create_task(shared.get()) for _ in range(100)]
    question.answers.put_nowait(7)
    assert (set(await asyncio.gather(*asking)), question.asked) == ({7}, 1)


@pytest.mark.parametrize(("kept_s", "asked"), [(LONG_S, 1), (0.0, 3)])
async def test_an_answer_is_told_again_for_as_long_as_it_is_kept(kept_s: float, asked: int) -> None:
    question = Question()
    shared = SharedAnswer(question.ask, kept_s)
    for answer in range(3):
        question.answers.put_nowait(answer)
    found = [await shared.get() for _ in range(3)]
    assert (found, question.asked) == ([0, 0, 0] if asked == 1 else [0, 1, 2], asked)


async def test_what_was_forgotten_is_asked_anew() -> None:
    question = Question()
    shared = SharedAnswer(question.ask, LONG_S)
    question.answers.put_nowait(1)
    assert await shared.get() == 1
    shared.forget()
    question.answers.put_nowait(2)
    assert await shared.get() == 2


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    question = Question()
    shared = SharedAnswer(question.ask, 0.0)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    question.answers.put_nowait(3)
    assert (await second, question.asked) == (3, 1)


async def test_a_failure_is_told_to_all_who_ask() -> None:
    question = Question()
    shared = SharedAnswer(question.ask, 0.0)
    asking = [asyncio.create_task(shared.get()) for _ in range(2)]
    question.answers.put_nowait(Unavailable("no"))
    assert [str(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == ["no", "no"]
