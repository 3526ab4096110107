"""One loaded version: its configuration, its declared tensors, its scheduler and its statistics."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ortolan.core.cached_answers import CachedAnswers
from ortolan.core.direct_form import DirectForm, timing_of
from ortolan.core.memory_meter import MemoryUse
from ortolan.core.occupancy import Occupancy
from ortolan.core.open_sequences import OpenSequences
from ortolan.core.request_terms import limits_of, sequence_of, with_id
from ortolan.core.response_cache import ResponseCache
from ortolan.core.trace import Trace
from ortolan.errors import Internal, InvalidArgument
from ortolan.execution.answer import log_failure
from ortolan.execution.calibration import Profile
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.direct_request import DirectTerms
from ortolan.execution.graph_request import NO_LIMITS, GraphRequest, RequestLimits, SequenceId
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduler import Scheduler
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.sequence_scheduler import AnyScheduler, SequenceScheduler, scheduler_for
from ortolan.execution.session import Session
from ortolan.inference.classification import classified
from ortolan.inference.datatypes import BYTES, Array
from ortolan.inference.request import InferenceRequest, InferenceResponse, Tensor
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.repository.model_config import ModelConfig


def _nothing() -> None:
    """Lets go of the files of a version that has none any more."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What loading yields, in the loading thread: everything of a version but its threads."""

    name: str
    number: int
    config: ModelConfig
    instances: tuple[tuple[str, Session, DeviceShare], ...]
    """The name, the session and the device of each instance; CPU instances share one session."""
    plan: SchedulingPlan
    profile: Profile
    devices: tuple[str, ...]
    """The device of each instance: ``CPU``, ``GPU 0``."""
    intra_op_threads: int
    notes: tuple[str, ...]
    """What was mended or will not be done, one sentence each, for the operator."""
    load_duration_ns: int
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each output with a label file, or with classes in the graph: the label of each index."""
    maps_compiled: bool = False
    """Whether its weights are mapped from the compiled cache, which all who load the same model share."""
    remove_files: Callable[[], None] = _nothing
    """To be called once the version is unloaded: removes the copies of files that its sessions go on using."""


class ModelVersion:
    """A version that is ready, or draining. Lives on the event loop."""

    def __init__(
        self,
        model: LoadedModel,
        limits: QueueLimits,
        loop: asyncio.AbstractEventLoop,
        cache: ResponseCache | None = None,
        open_sequences: OpenSequences | None = None,
        memory: MemoryUse | None = None,
    ) -> None:
        """``open_sequences`` are those that began in versions that this one replaces; ``memory`` is what it holds."""
        self.memory = memory or MemoryUse()
        self._loop = loop
        self.used_s = loop.time()
        self._in_cache = 0
        self.name = model.name
        self.number = model.number
        self.number_text = str(model.number)
        self.config = model.config
        self.loaded = model
        self.signature: ModelSignature = model.config.signature
        self._batching = self.signature.batching
        self._input_specs = {spec.name: spec for spec in self.signature.inputs}
        self._output_specs = {spec.name: spec for spec in self.signature.outputs}
        self._all_outputs = tuple(self._output_specs)
        self._shapes_vary = shapes_vary(model.config)
        self._ragged = frozenset(spec.name for spec in self.signature.inputs if spec.ragged)
        self.scheduler = scheduler_for(model.name, model.instances, model.plan, limits, loop)
        self.scheduler.statistics.load_duration_ns = model.load_duration_ns
        self.identity = object()
        self._open_sequences = open_sequences if model.config.sequence_batching is not None else None
        self._occupancy = Occupancy(self._close)
        self._cached: CachedAnswers | None = None
        if cache is not None and model.config.response_cache:
            self._cached = CachedAnswers(
                cache, self.name, self.number_text, self.identity, self.statistics, self._all_outputs
            )
        self.direct_scheduler = self._direct_scheduler()
        """Where requests may go straight to that need nothing done before or after; None where all need something."""

    def _direct_scheduler(self) -> Scheduler | None:
        if not isinstance(self.scheduler, Scheduler) or self._cached is not None:
            return None
        reshaped = any(spec.reshape is not None for spec in (*self.signature.inputs, *self.signature.outputs))
        return None if reshaped or self.config.sequence_batching is not None else self.scheduler

    @property
    def statistics(self) -> ModelStatistics:
        return self.scheduler.statistics

    @property
    def waiting_requests(self) -> int:
        return self.scheduler.waiting_requests

    @property
    def queue_age_s(self) -> float:
        since_ns = self.scheduler.oldest_ns
        return (time.monotonic_ns() - since_ns) / 1e9 if since_ns else 0.0

    @property
    def in_flight_requests(self) -> int:
        return self.scheduler.in_flight_requests + self._in_cache

    @property
    def live_sequences(self) -> int:
        return self.scheduler.live_sequences

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        return self.loaded.labels

    @property
    def schedulers(self) -> Sequence[AnyScheduler]:
        return (self.scheduler,)

    @property
    def keeps_answers(self) -> bool:
        return self._cached is not None

    def start(self) -> None:
        self.scheduler.start()

    async def infer(self, request: InferenceRequest, trace: Trace | None = None) -> InferenceResponse:
        """The answer to ``request``. Raises InvalidArgument when it does not fit, and what execution raises."""
        if self._open_sequences is not None and (older := self._open_sequences.holder_of(request, self)):
            return await older.infer(request, trace)
        rows = self.checked_rows(request)
        limits = limits_of(request)
        self.touch()
        if self._cached is None:
            return await self._execute(request, rows, limits, trace)
        self._in_cache += 1
        try:
            with self._occupancy.inside():
                return await self._cached.infer(request, lambda: self._execute(request, rows, limits, trace))
        finally:
            self._in_cache -= 1

    async def _execute(
        self, request: InferenceRequest, rows: int, limits: RequestLimits, trace: Trace | None
    ) -> InferenceResponse:
        if trace is not None:
            trace.entered(request.inputs)
        asked = self._graph_request(request, rows, limits)
        names = asked.output_names
        try:
            if self._batching and rows > self.signature.max_batch_size:
                answer = await self.scheduler.infer_in_parts(asked)
            else:
                answer = await self.scheduler.infer(asked)
        except Internal as error:
            # Only here is it known whose request it was.
            log_failure(error, self.name, self.number_text, request.id)
            raise
        outputs = tuple(self._wire_tensor(name, array) for name, array in zip(names, answer.outputs, strict=True))
        if trace is not None:
            trace.executed(answer.queue_ns, answer.times, answer.batch_rows)
            trace.left(outputs)
        if any(output.class_count for output in request.outputs):
            outputs = self._with_classes(request, outputs)
        return InferenceResponse(self.name, self.number_text, request.id, outputs, timing=timing_of(answer))

    def _graph_request(self, request: InferenceRequest, rows: int, limits: RequestLimits) -> GraphRequest:
        inputs = {tensor.name: self._graph_array(tensor) for tensor in request.inputs}
        names = tuple([output.name for output in request.outputs]) or self._all_outputs
        shapes = self._shapes_of(request.inputs) if self._shapes_vary else None
        sequence = sequence_of(request.parameters) if self.config.sequence_batching is not None else None
        return GraphRequest(inputs, names, rows, shapes, limits, sequence)

    def direct_form(self, request: InferenceRequest) -> DirectForm | None:
        """What ``request``, which was answered, and others of its form come to; None where that is not all."""
        if self.direct_scheduler is None or request.uses_shared_memory:
            return None
        rows = self.signature.check(request)
        if (self._batching and rows > self.signature.max_batch_size) or limits_of(request) is not NO_LIMITS:
            return None
        if any(output.class_count for output in request.outputs):
            return None
        asked = self._graph_request(request, rows, NO_LIMITS)
        datatypes = tuple([self._output_specs[name].datatype for name in asked.output_names])
        if BYTES in datatypes:
            return None
        line = self.loaded.plan.line
        timeout_us = line.queue_timeout_us(line.default_level, 0)
        terms = DirectTerms(
            asked.output_names,
            rows,
            asked.shapes,
            asked.size_bytes,
            timeout_us * 1000,
            self.name,
            self.number_text,
            request.id,
        )
        return DirectForm(self, terms, datatypes, request.model_name, request.model_version)

    def touch(self) -> None:
        """It is being asked."""
        self.used_s = self._loop.time()

    def checked_rows(self, request: InferenceRequest) -> int:
        """The rows of ``request``. Raises InvalidArgument, saying for which request, when it does not fit."""
        try:
            return self.signature.check(request)
        except InvalidArgument as error:
            raise InvalidArgument(with_id(error.message, request.id)) from error

    def _with_classes(self, request: InferenceRequest, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs, those that are wanted as classes classified."""
        return tuple(
            classified(tensor, wanted.class_count, self._batching, self.loaded.labels.get(wanted.name, ()))
            if wanted.class_count
            else tensor
            for wanted, tensor in zip(request.outputs, tensors, strict=True)
        )

    def _graph_array(self, tensor: Tensor) -> Array:
        """The tensor in the shape that the graph has, where the configuration reshapes it."""
        spec = self._input_specs[tensor.name]
        if spec.reshape is None:
            return tensor.array
        batch = tensor.shape[:1] if self._batching else ()
        return tensor.array.reshape(batch + _filled(spec.reshape, tensor.shape[len(batch) :], spec.dims))

    def _wire_tensor(self, name: str, array: Array) -> Tensor:
        spec = self._output_specs[name]
        if spec.reshape is not None:
            array = self._reshaped_output(spec, array)
        return Tensor(name, spec.datatype, array.shape, array)

    def _reshaped_output(self, spec: TensorSpec, array: Array) -> Array:
        batch = array.shape[:1] if self._batching else ()
        inner = array.shape[len(batch) :]
        if spec.reshape is None or len(inner) != len(spec.reshape):
            return array
        return array.reshape(batch + _filled(spec.dims, inner, spec.reshape))

    def _shapes_of(self, tensors: Sequence[Tensor]) -> object:
        """What two requests must have in common to share a batch: the inputs they give, and the sizes of each row.

        Of ragged inputs the sizes may differ.
        """
        first = 1 if self._batching else 0
        ragged = self._ragged
        return tuple(sorted((each.name, () if each.name in ragged else each.shape[first:]) for each in tensors))

    def has_open_sequence(self, sequence_id: SequenceId) -> bool:
        """Whether further requests with this id belong to a sequence that began in it."""
        return isinstance(self.scheduler, SequenceScheduler) and self.scheduler.has_open(sequence_id)

    async def sequences_ended(self) -> None:
        """Return once no sequence is open in it."""
        if isinstance(self.scheduler, SequenceScheduler):
            await self.scheduler.sequences_ended()

    def hold(self) -> None:
        """Have it let requests in until ``release``, even after ``refuse_new``: an ensemble relies on it."""
        self._occupancy.enter()

    def release(self) -> None:
        self._occupancy.leave()

    def refuse_new(self) -> None:
        """Let no further request in, once nobody holds it."""
        self._occupancy.close_when_empty()

    def _close(self) -> None:
        self.scheduler.refuse_new()
        if self._cached is not None:
            self._cached.forget()

    async def drained(self) -> None:
        await self._occupancy.emptied()
        await self.scheduler.drained()

    def join(self, timeout_s: float) -> bool:
        return self.scheduler.join(timeout_s)


def _filled(target: Sequence[int], shape: Sequence[int], dims: Sequence[int]) -> tuple[int, ...]:
    """``target`` with its variable sizes taken, in their order, from the sizes of ``shape`` that vary in ``dims``."""
    varying = [size for size, dim in zip(shape, dims, strict=True) if dim == -1]
    sizes: Mapping[int, int] = dict(zip((i for i, dim in enumerate(target) if dim == -1), varying, strict=False))
    return tuple(sizes.get(index, dim) for index, dim in enumerate(target))


def shapes_vary(config: ModelConfig) -> bool:
    """Whether two requests for the model may differ in more than their rows."""
    return any(spec.optional or -1 in spec.dims for spec in config.inputs)
