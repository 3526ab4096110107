"""Golden requests of an ensemble: run through its steps, as the models serve that it is about to be bound to.

They wait in the queues of those models with everybody else's requests, so a queue that is full is no wrong answer.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from ortolan.core.ensemble_version import EnsembleVersion
from ortolan.core.golden_answers import ATOL, RTOL, compare, fitted
from ortolan.core.golden_requests import data_sets, quoting, refusing
from ortolan.core.load_threads import LoadThreads
from ortolan.errors import OrtolanError, Unavailable
from ortolan.execution.option_values import checked
from ortolan.execution.session_settings import MODEL_PARAMETERS
from ortolan.inference.request import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from ortolan.repository.golden_files import (
    Check,
    DataSet,
    DataSetRefused,
    GoldenPlace,
    GoldenRule,
    data_set_directories,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_ATTEMPTS = 8
_FIRST_DELAY_S = 0.05
_SEQUENCES = (
    "a step's model is served in sequences, so that an answer depends on the requests before: none can be compared"
)


class EnsembleTrial:
    """The golden requests of one ensemble, to be run on the event loop."""

    def __init__(self, place: GoldenPlace, rule: GoldenRule, check: Check, load_threads: LoadThreads) -> None:
        """``check`` is asked about each file."""
        self._place = place
        self._rule = rule
        self._check = check
        self._load_threads = load_threads

    async def run(self, version: EnsembleVersion) -> None:
        """Raises InvalidArgument naming the data set that fails, or that there is none where one is required."""
        parameters = _tolerances(version.name, version.config.parameters)
        sets = data_sets(self._place, self._rule, self._check)
        if version.signature.sequences:
            self._refuse_sequences(version.name)
            return
        # One at a time, in a thread: they may be large.
        while data_set := await self._blocking(version.name, lambda: next(sets, None)):
            await self._run(data_set, version, parameters)

    def _refuse_sequences(self, name: str) -> None:
        with refusing(name):
            if self._rule == "require":
                raise DataSetRefused(f"{_SEQUENCES}, and --golden-requests=require wants that")
            if self._rule == "check" and data_set_directories(self._place.parents):
                _log.warning("the golden requests of model '%s' are not run: %s", name, _SEQUENCES)

    async def _run(self, data_set: DataSet, version: EnsembleVersion, parameters: Mapping[str, str]) -> None:
        with refusing(version.name), quoting(data_set):
            inputs, expected = fitted(data_set, version.signature.inputs, version.signature.outputs)
            given = (Tensor(name, each.datatype, each.array.shape, each.array) for name, each in inputs.items())
            asked = tuple(RequestedOutput(name) for name in expected)
            request = InferenceRequest(version.name, inputs=tuple(given), outputs=asked)
            response = await _answer(data_set, version, request)
        answers = [output.array for output in response.outputs]

        def judge() -> None:
            with quoting(data_set):
                compare(data_set, expected, answers, parameters)

        await self._blocking(version.name, judge)

    async def _blocking(self, model_name: str, function: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            with refusing(model_name):
                return function()

        return await self._load_threads.run(guarded)


async def _answer(data_set: DataSet, version: EnsembleVersion, request: InferenceRequest) -> InferenceResponse:
    delay_s = _FIRST_DELAY_S
    for left in reversed(range(_ATTEMPTS)):
        try:
            return await version.infer(request)
        except OrtolanError as error:
            if not left or not isinstance(error, Unavailable):
                raise DataSetRefused(f"{data_set.name} fails: {error.message}") from error
        await asyncio.sleep(delay_s)
        delay_s *= 2
    raise AssertionError("unreachable")


def _tolerances(model_name: str, parameters: Mapping[str, str]) -> Mapping[str, str]:
    where = f"parameter of model '{model_name}'"
    return {key: checked(key, parameters[key], MODEL_PARAMETERS, where) for key in (RTOL, ATOL) if key in parameters}
