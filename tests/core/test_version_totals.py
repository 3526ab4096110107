import orjson
import pytest

from ortolan.core.version_totals import VersionNumbers, added, added_errors, read_totals
from ortolan.execution.detailed_statistics import DetailOptions
from ortolan.execution.model_statistics import ExecutionTimes, FailureReason, ModelStatistics

NOW_MS = 1_700_000_000_000


def numbers(scale: int) -> VersionNumbers:
    """What a process counts, each number by another share of ``scale``."""
    statistics = ModelStatistics(load_duration_ns=scale)
    times = ExecutionTimes(0, scale, 2 * scale, 4 * scale)
    statistics.count_execution(2, times)
    statistics.count_execution(scale, times)
    statistics.count_answered(3, scale, times, 5 * scale, 1000 - scale)
    statistics.count_cache_hit(scale, 1000 - scale)
    statistics.count_failure(7, FailureReason.REJECTED)
    return VersionNumbers(statistics, scale, memory_bytes=10 * scale, in_flight_requests=2 * scale, queue_age_s=scale)


def test_numbers_come_through_json_as_they_were() -> None:
    told = {"m/1": numbers(3)}
    assert read_totals(orjson.loads(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))) == told


def test_counts_add_up_and_of_moments_the_last_counts() -> None:
    whole = added([{"m/1": numbers(3)}, {"m/1": numbers(5), "other/1": numbers(1)}, {}])
    sums = whole["m/1"]
    assert (sums.waiting_requests, sums.memory_bytes, sums.in_flight_requests, sums.queue_age_s) == (8, 80, 16, 5)
    statistics = sums.statistics
    assert (statistics.inference_count, statistics.execution_count) == (6, 4)
    assert (statistics.success.count, statistics.success.ns) == (4, 6 * (3 + 5))
    assert (statistics.compute_output.count, statistics.compute_output.ns) == (2, 2 * (3 + 5))
    assert {rows: batch.compute_infer.count for rows, batch in statistics.batches.items()} == {2: 2, 3: 1, 5: 1}
    assert (statistics.last_inference_ms, statistics.load_duration_ns) == (997, 5)
    assert statistics.failures[FailureReason.REJECTED] == 2
    assert whole["other/1"] == numbers(1)


def test_adding_up_changes_no_part() -> None:
    part = {"m/1": numbers(3)}
    added([part, part])
    assert part == {"m/1": numbers(3)}


def test_of_a_process_that_is_gone_what_it_counted_stays() -> None:
    left = numbers(3).counted_only()
    assert left == VersionNumbers(numbers(3).statistics)


def detailed(ns: int) -> VersionNumbers:
    statistics = DetailOptions(histograms=True, summaries=True).statistics((1.0, 10.0))
    statistics.count_answered(1, ns, ExecutionTimes(0, ns, 2 * ns, 3 * ns), 4 * ns, NOW_MS)
    statistics.count_cache_miss(ns, NOW_MS)
    return VersionNumbers(statistics)


def test_what_is_kept_of_single_requests_comes_through_json_and_adds_up() -> None:
    fast, slow = detailed(100_000), detailed(20_000_000)
    (read,) = (
        read_totals(orjson.loads(orjson.dumps({"m/1": each}, option=orjson.OPT_NON_STR_KEYS))) for each in [slow]
    )
    whole = added([{"m/1": fast}, read])["m/1"].statistics.detail
    assert whole is not None
    assert whole.first_responses is not None
    assert (whole.first_responses.buckets, whole.first_responses.ns) == ([1, 0, 1], 4 * 20_100_000)
    low, high = whole.summaries["queue"].quantiles((0.5, 1.0), NOW_MS)
    assert (low, high) == (pytest.approx(100_000, rel=0.016), pytest.approx(20_000_000, rel=0.016))
    assert fast == detailed(100_000)


def test_errors_add_up_by_protocol_and_code() -> None:
    parts = [{"http": {"400": 2}, "grpc": {}}, {"http": {"400": 1, "503": 4}, "grpc": {"UNAVAILABLE": 1}}, {}]
    assert added_errors(parts) == {"http": {"400": 3, "503": 4}, "grpc": {"UNAVAILABLE": 1}}
