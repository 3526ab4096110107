"""A request larger than a batch: a few parts at a time, and one answer as if it had been run whole."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from ortolan.errors import Internal
from ortolan.execution.answer import Answer
from ortolan.execution.graph_request import GraphRequest, RequestLimits
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.execution.request_parts import execute_parts, joined
from ortolan.inference.datatypes import Array

TIMES = ExecutionTimes(10, 11, 12, 13)


def request(rows: int) -> GraphRequest:
    return GraphRequest({"x": np.arange(rows, dtype=np.float32)}, ("y",), rows, "alike", RequestLimits(priority=2))


class Doubling:
    """Executes parts when it is told to, and remembers them."""

    def __init__(self) -> None:
        self.parts: list[GraphRequest] = []
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, part: GraphRequest) -> Answer:
        self.parts.append(part)
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        return Answer([part.inputs["x"] * 2], 5, TIMES, part.rows)


async def in_turn(task: "asyncio.Task[list[Answer]]", doubling: Doubling) -> list[Answer]:
    """Let one part end in each turn of the loop, the last one first."""
    while not task.done():
        await asyncio.sleep(0)
        if doubling.waiting:
            doubling.waiting.pop().set_result(None)
    return await task


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1]), (4, [4]), (5, [4, 1]), (20, [4, 4, 4, 4, 4])])
async def test_the_parts_are_executed_in_any_order_and_joined_in_that_of_the_rows(rows: int, sizes: list[int]) -> None:
    doubling = Doubling()
    task = asyncio.create_task(execute_parts(request(rows), 4, 2, doubling))
    answer = joined(await in_turn(task, doubling), start_ns=3)
    assert [part.rows for part in doubling.parts] == sizes
    assert {(part.output_names, part.shapes, part.limits.priority) for part in doubling.parts} == {(("y",), "alike", 2)}
    assert answer.outputs[0].tolist() == [2.0 * row for row in range(rows)]
    assert answer.batch_rows == max(sizes)
    assert answer.queue_ns == 7
    assert answer.compute_ns == 3


async def test_only_so_many_parts_are_inside_at_a_time() -> None:
    doubling = Doubling()
    task = asyncio.create_task(execute_parts(request(100), 4, 3, doubling))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(doubling.parts) == 3
    await in_turn(task, doubling)
    assert len(doubling.parts) == 25


@pytest.mark.parametrize("outputs", [[np.zeros((1,))], [np.zeros(())]])
async def test_an_output_without_the_parts_rows_is_no_part_of_an_answer(outputs: Sequence[Array]) -> None:
    async def summing(part: GraphRequest) -> Answer:
        return Answer(list(outputs), 0, TIMES, part.rows)

    with pytest.raises(Internal, match="does not keep the batch dimension"):
        await execute_parts(request(8), 4, 2, summing)


async def test_the_first_part_that_fails_fails_the_request_and_ends_the_others() -> None:
    ended: list[int] = []

    async def failing(part: GraphRequest) -> Answer:
        if part.inputs["x"][0] == 4:
            raise Internal("no")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(int(part.inputs["x"][0]))
        raise AssertionError

    with pytest.raises(Internal, match="no"):
        await execute_parts(request(20), 4, 2, failing)
    await asyncio.sleep(0)
    assert ended == [0]


def test_the_size_of_a_request_is_that_of_its_elements() -> None:
    inputs = {"x": np.zeros((2, 3), np.float32), "s": np.array([b"ab", b"", b"cde"], object)}
    assert GraphRequest(inputs, ("y",), 2).size_bytes == 24 + 5
