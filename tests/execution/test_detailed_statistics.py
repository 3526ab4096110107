"""What is counted of each request where the operator asks for it, beside the usual numbers."""

import pytest

from ortolan.execution.detailed_statistics import DetailedStatistics, DetailOptions
from ortolan.execution.model_statistics import ExecutionTimes, ModelStatistics
from ortolan.execution.request_detail import SUMMARISED, RequestDetail

NOW_MS = 1_700_000_000_000
TIMES = ExecutionTimes(0, 1_000, 5_000_000, 5_002_000)


def detail_of(options: DetailOptions, *bounds_ms: float) -> RequestDetail:
    statistics = options.statistics(bounds_ms)
    statistics.count_answered(2, 300, TIMES, 6_000_000, NOW_MS)
    statistics.count_cache_hit(40_000, NOW_MS)
    statistics.count_cache_miss(70_000, NOW_MS)
    assert (statistics.success.count, statistics.queue.count, statistics.cache_miss.count) == (2, 2, 1)
    assert statistics.detail is not None
    return statistics.detail


def test_without_being_asked_nothing_more_is_kept() -> None:
    statistics = DetailOptions().statistics()
    assert type(statistics) is ModelStatistics
    assert statistics.detail is None


@pytest.mark.parametrize(
    ("bounds_ms", "buckets"), [((), [2, 0, 0, 0, 0]), ((1.0, 6.0), [1, 1, 0]), ((1.0, 5.9), [1, 0, 1])]
)
def test_first_responses_are_counted_by_the_models_buckets(bounds_ms: tuple[float, ...], buckets: list[int]) -> None:
    detail = detail_of(DetailOptions(histograms=True), *bounds_ms)
    assert detail.first_responses is not None
    assert detail.first_responses.buckets == buckets
    assert detail.first_responses.ns == 6_040_000
    assert not detail.summaries


def test_summaries_see_every_stage_of_every_request() -> None:
    detail = detail_of(DetailOptions(summaries=True))
    assert detail.first_responses is None
    assert set(detail.summaries) == set(SUMMARISED)
    counts = {name: sum(sum(slot.values()) for slot in seen.slots.values()) for name, seen in detail.summaries.items()}
    runs = dict.fromkeys(("compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"), 1)
    assert counts == {"request": 2, "queue": 2, **runs}
    assert detail.summaries["compute_infer"].quantiles((0.5,), NOW_MS) == [pytest.approx(4_999_000, rel=0.016)]


def test_histograms_of_other_buckets_are_not_mixed() -> None:
    old, new = (detail_of(DetailOptions(histograms=True), *bounds) for bounds in ((1.0,), (2.0,)))
    old.plus(new)
    assert old.first_responses is not None
    assert old.first_responses.buckets == [1, 1]
    assert isinstance(DetailOptions(histograms=True).statistics(), DetailedStatistics)
