"""Counts and durations of one model version, as plain numbers. Durations are nanoseconds.

Only the event loop's thread writes here, so there is no lock. The meaning of each number is Triton's: a request that
fails counts in ``failures`` only; ``queue``, ``compute_*`` of a request are those of the batch it was part of.
"""

import enum
from bisect import bisect_left
from dataclasses import dataclass, field

from ortolan.execution.latencies import BOUNDS_NS, FIRST_NS, Latencies
from ortolan.execution.request_detail import RequestDetail


class FailureReason(enum.Enum):
    """Why a request failed; the values are the labels of ``nv_inference_request_failure``."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class ExecutionTimes:
    """When the stages of one execution began and ended, on the monotonic clock."""

    start_ns: int
    input_end_ns: int
    output_start_ns: int
    end_ns: int

    @property
    def input_ns(self) -> int:
        return self.input_end_ns - self.start_ns

    @property
    def infer_ns(self) -> int:
        return self.output_start_ns - self.input_end_ns

    @property
    def output_ns(self) -> int:
        return self.end_ns - self.output_start_ns


@dataclass(slots=True)
class BatchSizeStatistics:
    """The executions with one number of rows."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelStatistics:
    """The numbers of one version since it was loaded."""

    last_inference_ms: int = 0
    """Milliseconds since the epoch; 0 when there was none."""
    inference_count: int = 0
    """Rows inferred."""
    execution_count: int = 0
    failed_run_ns: int = 0
    """How long runs took that answered nobody."""
    success: Latencies = field(default_factory=Latencies)
    fail: Duration = field(default_factory=Duration)
    queue: Latencies = field(default_factory=Latencies)
    compute_input: Latencies = field(default_factory=Latencies)
    compute_infer: Latencies = field(default_factory=Latencies)
    compute_output: Latencies = field(default_factory=Latencies)
    cache_hit: Duration = field(default_factory=Duration)
    """Requests answered out of the response cache, and the time to find their answers there."""
    cache_miss: Duration = field(default_factory=Duration)
    """Requests answered by a run, and the time to look for their answers and to keep them."""
    batches: dict[int, BatchSizeStatistics] = field(default_factory=dict)
    failures: dict[FailureReason, int] = field(default_factory=lambda: dict.fromkeys(FailureReason, 0))
    load_duration_ns: int = 0
    detail: RequestDetail | None = None
    """What ``DetailedStatistics`` keeps; None here."""

    def count_execution(self, rows: int, times: ExecutionTimes) -> None:
        """One run of the model over ``rows`` rows."""
        self.execution_count += 1
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchSizeStatistics()
        # Every request comes by here and below: additions where they are take a third of the time of calls.
        start_ns, end_ns = times.input_end_ns, times.output_start_ns
        phase = batch.compute_input
        phase.count += 1
        phase.ns += start_ns - times.start_ns
        phase = batch.compute_infer
        phase.count += 1
        phase.ns += end_ns - start_ns
        phase = batch.compute_output
        phase.count += 1
        phase.ns += times.end_ns - end_ns

    def count_answered(self, rows: int, queue_ns: int, times: ExecutionTimes, duration_ns: int, now_ms: int) -> None:
        """One request that was executed and has its answer, ``duration_ns`` after its arrival in the core."""
        self.inference_count += rows
        self.last_inference_ms = now_ms
        input_end_ns, output_start_ns = times.input_end_ns, times.output_start_ns
        # As above, and most durations of small models need no search.
        phase = self.queue
        phase.ns += queue_ns
        phase.buckets[0 if queue_ns <= FIRST_NS else bisect_left(BOUNDS_NS, queue_ns)] += 1
        phase = self.compute_input
        ns = input_end_ns - times.start_ns
        phase.ns += ns
        phase.buckets[0 if ns <= FIRST_NS else bisect_left(BOUNDS_NS, ns)] += 1
        phase = self.compute_infer
        ns = output_start_ns - input_end_ns
        phase.ns += ns
        phase.buckets[0 if ns <= FIRST_NS else bisect_left(BOUNDS_NS, ns)] += 1
        phase = self.compute_output
        ns = times.end_ns - output_start_ns
        phase.ns += ns
        phase.buckets[0 if ns <= FIRST_NS else bisect_left(BOUNDS_NS, ns)] += 1
        phase = self.success
        phase.ns += duration_ns
        phase.buckets[0 if duration_ns <= FIRST_NS else bisect_left(BOUNDS_NS, duration_ns)] += 1

    def count_cache_hit(self, lookup_ns: int, now_ms: int) -> None:
        """One request that was answered out of the response cache: nothing ran, and nothing queued for long."""
        self.cache_hit.add(lookup_ns)
        self.queue.buckets[0] += 1
        self.success.ns += lookup_ns
        self.success.buckets[bisect_left(BOUNDS_NS, lookup_ns)] += 1
        self.last_inference_ms = now_ms

    def count_cache_miss(self, ns: int, now_ms: int) -> None:  # noqa: ARG002 - for those who keep more
        """One request for which the response cache was asked in vain; ``ns``: that, and keeping its answer."""
        self.cache_miss.add(ns)

    def count_failure(self, duration_ns: int, reason: FailureReason) -> None:
        self.fail.add(duration_ns)
        self.failures[reason] += 1
