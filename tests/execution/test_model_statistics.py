"""The numbers of one version, counted as Triton counts them."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ortolan.execution.latencies import BOUNDS_NS, Latencies
from ortolan.execution.model_statistics import Duration, ExecutionTimes, FailureReason, ModelStatistics

TIMES = ExecutionTimes(start_ns=100, input_end_ns=110, output_start_ns=140, end_ns=145)


def counted(latencies: Latencies) -> tuple[int, int]:
    """How many there were, and what they took together."""
    return latencies.count, latencies.ns


def test_the_stages_of_an_execution_follow_one_another() -> None:
    assert (TIMES.input_ns, TIMES.infer_ns, TIMES.output_ns) == (10, 30, 5)


def test_nothing_has_happened_at_first() -> None:
    statistics = ModelStatistics()
    assert (statistics.inference_count, statistics.execution_count, statistics.last_inference_ms) == (0, 0, 0)
    assert counted(statistics.success) == (0, 0)
    assert statistics.fail == Duration(0, 0)
    assert statistics.failures == dict.fromkeys(FailureReason, 0)
    assert statistics.batches == {}


def test_executions_are_counted_by_their_rows() -> None:
    statistics = ModelStatistics()
    for rows in (1, 4, 4):
        statistics.count_execution(rows, TIMES)
    assert statistics.execution_count == 3
    assert {rows: batch.compute_infer for rows, batch in statistics.batches.items()} == {
        1: Duration(1, 30),
        4: Duration(2, 60),
    }
    assert statistics.batches[4].compute_input == Duration(2, 20)
    assert statistics.batches[4].compute_output == Duration(2, 10)
    assert statistics.inference_count == 0  # rows are counted with the requests that bring them


def test_each_request_of_a_batch_has_the_batchs_times() -> None:
    statistics = ModelStatistics()
    statistics.count_answered(3, 7, TIMES, 60, 0)
    statistics.count_answered(1, 9, TIMES, 70, 0)
    assert statistics.inference_count == 4
    assert counted(statistics.queue) == (2, 16)
    assert counted(statistics.compute_input) == (2, 20)
    assert counted(statistics.compute_infer) == (2, 60)
    assert counted(statistics.compute_output) == (2, 10)


def test_an_answer_counts_its_whole_duration_and_when_it_was() -> None:
    statistics = ModelStatistics()
    statistics.count_answered(1, 7, TIMES, 500, 1_700_000_000_123)
    assert counted(statistics.success) == (1, 500)
    assert statistics.last_inference_ms == 1_700_000_000_123


def test_an_answer_out_of_the_cache_queued_for_nothing_and_ran_nothing() -> None:
    statistics = ModelStatistics()
    statistics.count_cache_hit(300_000, 5)
    assert counted(statistics.success) == (1, 300_000)
    assert counted(statistics.queue) == (1, 0)
    assert statistics.cache_hit == Duration(1, 300_000)
    assert statistics.compute_infer.count == statistics.inference_count == 0


DURATIONS = st.one_of(st.integers(0, 10**12), st.sampled_from([bound + by for bound in BOUNDS_NS for by in (-1, 0, 1)]))


@given(st.lists(st.tuples(DURATIONS, DURATIONS, DURATIONS, DURATIONS, DURATIONS)))
def test_every_duration_is_in_the_bucket_of_the_least_bound_that_it_does_not_exceed(
    requests: list[tuple[int, int, int, int, int]],
) -> None:
    statistics = ModelStatistics()
    for queue, one, two, three, whole in requests:
        times = ExecutionTimes(5, 5 + one, 5 + one + two, 5 + one + two + three)
        statistics.count_answered(1, queue, times, whole, 0)
    stages = ("queue", "compute_input", "compute_infer", "compute_output", "success")
    for name, durations in zip(stages, zip(*requests, strict=True), strict=False):
        found = getattr(statistics, name)
        below = [sum(duration <= bound for duration in durations) for bound in (*BOUNDS_NS, 10**13)]
        assert list(accumulate(found.buckets)) == below
        assert (found.count, found.ns) == (len(requests), sum(durations))


def test_a_failure_counts_as_a_failure_only() -> None:
    statistics = ModelStatistics()
    statistics.count_failure(50, FailureReason.REJECTED)
    statistics.count_failure(70, FailureReason.REJECTED)
    assert statistics.fail == Duration(2, 120)
    assert statistics.failures[FailureReason.REJECTED] == 2
    assert sum(statistics.failures.values()) == 2
    assert counted(statistics.success) == counted(statistics.queue) == (0, 0)
    assert statistics.last_inference_ms == 0
