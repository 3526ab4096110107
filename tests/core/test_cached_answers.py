"""An answer is given again to every request that asks the same, in the order in which that one lists its outputs."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from ortolan.core.cached_answers import CachedAnswers
from ortolan.core.response_cache import ResponseCache
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor

VALUES = {"y": 1.0, "z": 2.0}
X = Tensor("x", FP32, (1,), np.ones(1, np.float32))


def request(names: Sequence[str]) -> InferenceRequest:
    return InferenceRequest("m", inputs=(X,), outputs=tuple(RequestedOutput(name) for name in names))


def model_answer(names: Sequence[str]) -> InferenceResponse:
    outputs = (Tensor(name, FP32, (1,), np.full(1, VALUES[name], np.float32)) for name in names or VALUES)
    return InferenceResponse("m", "1", "", tuple(outputs))


@pytest.mark.parametrize(
    ("first", "second"),
    [((), ("y", "z")), (("y", "z"), ()), (("z", "y"), ()), (("z", "y"), ("y", "z")), ((), ("z", "y"))],
)
def test_all_outputs_are_one_question_however_they_are_asked_for(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    statistics = ModelStatistics()
    answers = CachedAnswers(ResponseCache(1 << 20), "m", "1", object(), statistics, tuple(VALUES))

    async def asked(names: Sequence[str]) -> list[tuple[str, float]]:
        async def run() -> InferenceResponse:
            return model_answer(names)

        response = await answers.infer(request(names), run)
        return [(output.name, float(output.array[0])) for output in response.outputs]

    async def both() -> None:
        assert await asked(first) == [(name, VALUES[name]) for name in first or VALUES]
        assert await asked(second) == [(name, VALUES[name]) for name in second or VALUES]

    asyncio.run(both())
    assert statistics.cache_hit.count == 1
