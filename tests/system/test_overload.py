"""A model that gets far more than it can answer refuses the rest quickly, and its neighbour answers all it is asked.

How quickly, and what the neighbour notices, `make overload-neighbours` measures.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator

import callers
import onnx_models
import pytest
from callers import row
from server_process import ServerProcess, running

FLOODING = 16
ASKED = 50
QUEUE = 8
# A refusal costs nothing but its own parsing; far above that, for a busy machine, and far below the wait in a queue.
PROMPT_S = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    onnx_models.save_version(repository, "slow", onnx_models.slow(100_000), config="max_batch_size: 1")
    onnx_models.save_version(repository, "quick", onnx_models.doubler())
    with running(repository, "--calibration-cache=none", f"--max-queue-size={QUEUE}") as server:
        yield server


async def flood(server: ServerProcess, over: asyncio.Event, replies: list[tuple[int, float]]) -> None:
    """Ask the slow model again as soon as it has answered."""
    while not over.is_set():
        begun_s = time.monotonic()
        reply = await callers.rest(server, "slow", row(1))
        replies.append((reply.status, time.monotonic() - begun_s))


async def test_the_neighbour_of_an_overloaded_model_answers_everything(server: ServerProcess) -> None:
    over, replies = asyncio.Event(), []
    floods = [asyncio.create_task(flood(server, over, replies)) for _ in range(FLOODING)]
    for value in range(ASKED):
        reply = await callers.rest(server, "quick", row(value))
        assert reply.array.tolist() == row(2 * value).tolist()
    over.set()
    await asyncio.gather(*floods)
    refused = [duration_s for status, duration_s in replies if status == 503]
    assert {status for status, _ in replies} == {200, 503}
    assert statistics.median(refused) < PROMPT_S
