import math
from array import array

import pytest

from ortolan.bench.figures import Figures, figures, median, quantile
from ortolan.bench.load import Outcome
from ortolan.bench.process_usage import Usage


@pytest.mark.parametrize(
    ("ordered", "share", "expected"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),  # half of them do not exceed it
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.999, 3.0),
        (list(map(float, range(1, 101))), 0.99, 99.0),
        (list(map(float, range(1, 101))), 0.0, 1.0),
    ],
)
def test_quantiles_are_values_that_were_measured(ordered: list[float], share: float, expected: float) -> None:
    assert quantile(ordered, share) == expected


def test_without_answers_there_are_no_latencies() -> None:
    found = figures(Outcome(1.0, 0, array("d"), {"503": array("d", [0.1, 0.2])}))
    assert math.isnan(found.p50_ms)
    assert (found.requests_per_s, found.cpu_us_per_request, found.faults) == (0, None, 2)
    assert found.as_json()["p99_ms"] is None


def test_requests_without_an_answer_count_as_the_patience_with_which_they_were_waited_for() -> None:
    found = figures(Outcome(1.0, 97, array("d", [0.001] * 97), unanswered=3, patience_s=2.0))
    assert (found.p50_ms, found.p99_ms, found.samples, found.faults) == (1, 2000, 100, 3)


@pytest.mark.parametrize(
    ("samples", "p99", "p999"),
    [(99, False, False), (100, True, False), (999, True, False), (1000, True, True)],
)
def test_a_quantile_that_few_latencies_cannot_tell_is_not_told(samples: int, p99: bool, p999: bool) -> None:
    found = figures(Outcome(1.0, samples, array("d", [0.001] * samples)))
    assert found.p50_ms == 1
    assert (not math.isnan(found.p99_ms), not math.isnan(found.p999_ms)) == (p99, p999)


def test_cpu_time_is_that_of_each_right_answer() -> None:
    before, after = Usage(1.0, 0, 0), Usage(1.5, 9 << 20, 7 << 20)
    found = figures(Outcome(2.0, 1000, array("d", [0.002, 0.001, 0.004]), before=before, after=after, own_cpu_s=1.8))
    assert found.cpu_us_per_request == pytest.approx(500)
    assert found.resident_mib == 7
    assert (found.requests_per_s, found.p50_ms) == (500, 2)
    assert found.bounded_by_generator


def test_rounds_are_joined_by_their_medians_and_failures_add_up() -> None:
    rounds = [_figures(rate, cpu) for rate, cpu in ((10.0, None), (30.0, 4.0), (20.0, 6.0))]
    joined = median(rounds)
    assert (joined.requests_per_s, joined.cpu_us_per_request) == (20, 5)
    assert (joined.failed, joined.unanswered, joined.samples) == ({"503": 6}, 3, 15)


def test_a_latency_that_one_round_cannot_tell_is_unknown() -> None:
    assert math.isnan(median([_figures(1, None), _figures(1, None, p99=math.nan)]).p99_ms)


def _figures(rate: float, cpu: float | None, p99: float = 2) -> Figures:
    return Figures(rate, 1, p99, 3, cpu, None, 0.1, {"503": 2}, 1, 4, 5)
