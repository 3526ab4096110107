"""A request with more rows than a batch may have: its parts, a few at a time, and their answers put together again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ortolan.errors import Internal
from ortolan.execution.answer import Answer
from ortolan.execution.graph_request import GraphRequest
from ortolan.execution.model_statistics import ExecutionTimes
from ortolan.inference.datatypes import Array


@dataclass(slots=True)
class JoinedTimes(ExecutionTimes):
    """From the first part's start to the last one's end, with what each part ran at, and over how many rows."""

    parts: Sequence[tuple[ExecutionTimes, int]] = ()


async def execute_parts(
    request: GraphRequest, size: int, at_once: int, execute: Callable[[GraphRequest], Awaitable[Answer]]
) -> list[Answer]:
    """The answers of ``execute`` to the parts of ``size`` rows, in the rows' order, ``at_once`` of them at a time.

    The first part that fails fails the request, and the others are given up.
    """
    starts = iter(range(0, request.rows, size))
    answers: dict[int, Answer] = {}

    async def work() -> None:
        for start in starts:
            part = request.part(start, size)
            answer = await execute(part)
            _check_kept_rows(part, answer.outputs)
            answers[start] = answer

    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [answers[start] for start in sorted(answers)]


def joined(answers: Sequence[Answer], start_ns: int) -> Answer:
    """The answer to a whole request that began at ``start_ns``, from those to its parts."""
    times = [answer.times for answer in answers]
    begin_ns, end_ns = min(time.start_ns for time in times), max(time.end_ns for time in times)
    return Answer(
        outputs=[np.concatenate(pieces) for pieces in zip(*(answer.outputs for answer in answers), strict=True)],
        queue_ns=begin_ns - start_ns,
        times=JoinedTimes(begin_ns, begin_ns, end_ns, end_ns, [(each.times, each.batch_rows) for each in answers]),
        batch_rows=max(answer.batch_rows for answer in answers),
    )


def _check_kept_rows(part: GraphRequest, outputs: Sequence[Array]) -> None:
    """Raises Internal where an output does not have the rows of its part, so that it is no part of an answer."""
    for name, output in zip(part.output_names, outputs, strict=True):
        if output.shape[:1] != (part.rows,):
            raise Internal(
                f"output '{name}' has shape {list(output.shape)} for a part of {part.rows} rows: it does not keep the "
                "batch dimension, so requests to this model cannot be split. Send fewer rows at a time."
            )
