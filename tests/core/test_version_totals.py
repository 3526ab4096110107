import orjson

from ortolan.core.version_totals import VersionNumbers, added, read_totals
from ortolan.execution.model_statistics import ExecutionTimes, FailureReason, ModelStatistics


def numbers(scale: int) -> VersionNumbers:
    """What a process counts, each number by another share of ``scale``."""
    statistics = ModelStatistics(load_duration_ns=scale)
    times = ExecutionTimes(0, scale, 2 * scale, 4 * scale)
    statistics.count_execution(2, times)
    statistics.count_execution(scale, times)
    statistics.count_success(3, scale, times)
    statistics.count_answer(5 * scale, 1000 - scale)
    statistics.count_cache_hit(scale, 1000 - scale)
    statistics.count_failure(7, FailureReason.REJECTED)
    return VersionNumbers(statistics, waiting_requests=scale, memory_bytes=10 * scale)


def test_numbers_come_through_json_as_they_were() -> None:
    told = {"m/1": numbers(3)}
    assert read_totals(orjson.loads(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))) == told


def test_counts_add_up_and_of_moments_the_last_counts() -> None:
    whole = added([{"m/1": numbers(3)}, {"m/1": numbers(5), "other/1": numbers(1)}, {}])
    sums = whole["m/1"]
    assert (sums.waiting_requests, sums.memory_bytes) == (8, 80)
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
    assert (left.waiting_requests, left.memory_bytes, left.statistics) == (0, 0, numbers(3).statistics)
