"""One loaded version of an ensemble: it answers by asking the versions that its steps are bound to.

The versions are chosen once, when the ensemble is loaded, and held for as long as it lives: a model that is replaced
meanwhile stays until this version has been replaced too, and a request never meets two versions of one model.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ortolan.core.cached_answers import CachedAnswers
from ortolan.core.ensemble_graph import EnsembleGraph, StepRun
from ortolan.core.memory_meter import MemoryUse
from ortolan.core.occupancy import Occupancy
from ortolan.core.request_terms import limits_of, with_id
from ortolan.core.response_cache import ResponseCache
from ortolan.core.served_version import ServedVersion
from ortolan.core.step_runs import in_order
from ortolan.core.step_tensors import StepTensors
from ortolan.core.trace import Trace
from ortolan.errors import InvalidArgument, OrtolanError, Unavailable
from ortolan.execution.model_statistics import ExecutionTimes, ModelStatistics
from ortolan.execution.request_counts import counting_failures
from ortolan.execution.sequence_scheduler import AnyScheduler
from ortolan.inference.classification import classified
from ortolan.inference.request import (
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    ResponseTiming,
    Tensor,
)
from ortolan.inference.tensor_spec import ModelSignature
from ortolan.repository.model_config import NEWEST_VERSION, ModelConfig

BATCHED_BY_STEPS = "an ensemble: the model of each step batches its own requests"


class EnsembleVersion:
    """A version that is ready, or draining. Lives on the event loop."""

    loaded = None
    live_sequences = 0

    def __init__(
        self,
        number: int,
        config: ModelConfig,
        graph: EnsembleGraph,
        models: Sequence[ServedVersion],
        labels: Mapping[str, tuple[str, ...]],
        load_duration_ns: int = 0,
        cache: ResponseCache | None = None,
        statistics: ModelStatistics | None = None,
    ) -> None:
        """``models`` are those of the graph's steps, in their order; ``labels`` are those of its own outputs."""
        self.memory = MemoryUse()
        self.used_s = 0.0
        self.in_flight_requests = 0
        self.name = config.name
        self.number = number
        self.number_text = str(number)
        self.config = config
        sequences = any(model.signature.sequences for model in models)
        self.signature: ModelSignature = replace(config.signature, sequences=sequences)
        self.identity = object()
        self.labels = labels
        self.statistics = statistics or ModelStatistics()
        self.statistics.load_duration_ns = load_duration_ns
        self._graph = graph
        self._models = tuple(models)
        self._all_outputs = tuple(spec.name for spec in config.outputs)
        self._all_runs = graph.runs_for(self._all_outputs)
        self._occupancy = Occupancy(self._let_go)
        self._started = False
        self._cached: CachedAnswers | None = None
        if cache is not None and config.response_cache:
            self._cached = CachedAnswers(
                cache, self.name, self.number_text, self.identity, self.statistics, self._all_outputs
            )

    @property
    def waiting_requests(self) -> int:
        """It has no queue: who waits does so in the queue of a step's model."""
        return 0

    @property
    def queue_age_s(self) -> float:
        return 0.0

    @property
    def schedulers(self) -> Sequence[AnyScheduler]:
        return tuple(dict.fromkeys(scheduler for model in self._models for scheduler in model.schedulers))

    @property
    def keeps_answers(self) -> bool:
        return self._cached is not None

    # -- answering -----------------------------------------------------------------------------------------------

    async def infer(self, request: InferenceRequest, trace: Trace | None = None) -> InferenceResponse:
        """The answer to ``request``. Raises InvalidArgument when it does not fit, and what a step raised, which then
        says in which ensemble. Cancelling the caller cancels the steps that run.
        """
        rows = self.checked_rows(request)
        limits_of(request)
        self.in_flight_requests += 1
        try:
            with self._occupancy.inside():
                if self._cached is None:
                    return await self._execute(request, rows, trace)
                return await self._cached.infer(request, lambda: self._execute(request, rows, trace))
        finally:
            self.in_flight_requests -= 1

    def checked_rows(self, request: InferenceRequest) -> int:
        """The rows of ``request``. Raises InvalidArgument, saying for which request, when it does not fit."""
        try:
            return self.signature.check(request)
        except InvalidArgument as error:
            raise InvalidArgument(with_id(error.message, request.id)) from error

    async def _execute(self, request: InferenceRequest, rows: int, trace: Trace | None) -> InferenceResponse:
        start_ns = time.monotonic_ns()
        if trace is not None:
            trace.entered(request.inputs)
        names = tuple(output.name for output in request.outputs) or self._all_outputs
        runs = self._runs_for(names)
        walk = _Walk(self, request, StepTensors(request.inputs, runs, names), trace)
        with counting_failures(self.statistics, start_ns):
            await in_order(runs, walk.ask)
            outputs = walk.tensors.named(names)
        times = self._count(rows, start_ns, walk.timing)
        if trace is not None:
            trace.walked(walk.timing.queue_ns, times)
            trace.left(outputs)
        if any(output.class_count for output in request.outputs):
            outputs = self._with_classes(request, outputs)
        return InferenceResponse(self.name, self.number_text, request.id, outputs, timing=walk.timing)

    def _runs_for(self, names: tuple[str, ...]) -> tuple[StepRun, ...]:
        return self._all_runs if set(names) == set(self._all_outputs) else self._graph.runs_for(names)

    async def ask(
        self, run: StepRun, request: InferenceRequest, inputs: tuple[Tensor, ...], trace: Trace | None = None
    ) -> InferenceResponse:
        """What the model of one step answers to its ``inputs``. Raises as ``infer`` does."""
        step = self._graph.steps[run.index]
        asked = replace(
            request,
            model_name=step.model_name,
            model_version="" if step.model_version == NEWEST_VERSION else str(step.model_version),
            inputs=inputs,
            outputs=tuple(RequestedOutput(theirs) for theirs in run.outputs),
        )
        try:
            model = self._models[run.index]
            if trace is None:
                return await model.infer(asked)
            with trace.step(model.name, model.number) as step_trace:
                return await model.infer(asked, step_trace)
        except OrtolanError as error:
            raise _told_by(self.name, error) from error

    def _count(self, rows: int, start_ns: int, timing: ResponseTiming) -> ExecutionTimes:
        """Count one answered request: the time in queues and in runs is that of all its steps together."""
        input_end_ns = start_ns + timing.input_ns
        output_start_ns = start_ns + timing.compute_ns - timing.output_ns
        times = ExecutionTimes(start_ns, input_end_ns, output_start_ns, start_ns + timing.compute_ns)
        self.statistics.count_execution(rows, times)
        duration_ns = time.monotonic_ns() - start_ns
        self.statistics.count_answered(rows, timing.queue_ns, times, duration_ns, int(time.time() * 1000))
        return times

    def _with_classes(self, request: InferenceRequest, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(
            classified(tensor, wanted.class_count, self.signature.batching, self.labels.get(wanted.name, ()))
            if wanted.class_count
            else tensor
            for wanted, tensor in zip(request.outputs, tensors, strict=True)
        )

    # -- beginning and ending ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Hold its models; a second time does nothing."""
        if not self._started:
            self._started = True
            for model in self._models:
                model.hold()

    def _let_go(self) -> None:
        for model in self._models:
            model.release()
        if self._cached is not None:
            self._cached.forget()

    def hold(self) -> None:
        self._occupancy.enter()

    def release(self) -> None:
        self._occupancy.leave()

    def refuse_new(self) -> None:
        self._occupancy.close_when_empty()

    async def drained(self) -> None:
        await self._occupancy.emptied()

    def join(self, timeout_s: float) -> bool:  # noqa: ARG002 - it has no threads
        return True


def _told_by(ensemble: str, error: OrtolanError) -> OrtolanError:
    """The error of a step as its ensemble tells it: of the same kind."""
    told = type(error)(f"in ensemble '{ensemble}', {error.message}")
    if isinstance(told, Unavailable) and isinstance(error, Unavailable):
        told.retry_after_s = error.retry_after_s
    return told


class _Walk:
    """One request on its way through the steps."""

    def __init__(
        self, ensemble: EnsembleVersion, request: InferenceRequest, tensors: StepTensors, trace: Trace | None
    ) -> None:
        self._ensemble = ensemble
        self._request = request
        self._trace = trace
        self.tensors = tensors
        self.timing = ResponseTiming(0, 0, 0)

    async def ask(self, run: StepRun) -> None:
        response = await self._ensemble.ask(run, self._request, self.tensors.taken_by(run), self._trace)
        self.tensors.put(run, response.outputs)
        if response.timing is not None:
            self.timing = self.timing.plus(response.timing)
