import pytest

from ortolan.commands.metrics_text import Page, samples
from ortolan.commands.status_figures import METRICS, Counts, Entry, Look, status

READY = Entry("m", "1", "READY", "")
NO_PAGE: Page = {}
HISTOGRAM = (
    'ortolan_request_duration_seconds_bucket{{model="m",version="1",le="0.001"}} {}\n'
    'ortolan_request_duration_seconds_bucket{{model="m",version="1",le="0.003"}} {}\n'
    'ortolan_request_duration_seconds_bucket{{model="m",version="1",le="+Inf"}} {}\n'
)


def look(at_s: float, counts: Counts | None = None, page: str = "", entry: Entry = READY) -> Look:
    told = {} if counts is None else {("m", "1"): counts}
    return Look(at_s, "ortolan 1", True, (entry,), told, samples(page, METRICS))


def test_rates_and_means_are_of_the_time_between_two_looks() -> None:
    found = status(look(10, Counts(100, 9.0, 1, 400, 100)), look(14, Counts(300, 10.0, 3, 1000, 200)))
    (row,) = found.rows
    assert (found.seconds, found.requests_per_s) == (4, 50)
    assert (row.requests_per_s, row.mean_ms, row.rows_per_batch) == (50, 5, 6)
    assert (row.requests, row.failures, row.new_failures) == (300, 3, 2)


def test_one_look_tells_what_was_since_the_models_were_loaded() -> None:
    one = look(10, Counts(100, 0.2, 1, 100, 50), HISTOGRAM.format(50, 100, 100))
    (row,) = status(one, one).rows
    assert row.requests_per_s is None
    assert (row.mean_ms, row.rows_per_batch, row.failures, row.new_failures) == (2, 2, 1, 1)
    assert (row.p50_ms, row.p99_ms) == (1, pytest.approx(2.96))


def test_latencies_are_of_the_requests_in_between() -> None:
    first = look(0, Counts(10), HISTOGRAM.format(10, 10, 10))
    last = look(1, Counts(20), HISTOGRAM.format(10, 20, 20))
    (row,) = status(first, last).rows
    assert row.p50_ms == pytest.approx(2)


def test_a_version_that_nobody_asked_has_no_latencies() -> None:
    (row,) = status(look(0, Counts()), look(1, Counts())).rows
    assert (row.requests_per_s, row.mean_ms, row.p50_ms, row.p99_ms, row.rows_per_batch) == (0, None, None, None, None)


def test_a_version_that_was_loaded_anew_counts_from_then_on() -> None:
    first = look(0, Counts(1000, 9.0, 5, 1000, 1000), HISTOGRAM.format(1000, 1000, 1000))
    (row,) = status(first, look(2, Counts(10, 0.01, 0, 10, 10), HISTOGRAM.format(10, 10, 10))).rows
    assert (row.requests_per_s, row.mean_ms, row.p50_ms) == (5, 1, 0.5)


def test_tritons_summaries_and_counts_do_where_there_are_no_histograms() -> None:
    page = (
        'nv_inference_request_summary_us{model="m",version="1",quantile="0.5"} 1500\n'
        'nv_inference_request_summary_us{model="m",version="1",quantile="0.99"} 9000\n'
        'nv_inference_pending_request_count{model="m",version="1"} 7\n'
        'nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2\n'
        'nv_inference_request_failure{model="m",version="1",reason="OTHER"} 1\n'
        'nv_inference_request_failure{model="m",version="2",reason="OTHER"} 100\n'
    )
    (row,) = status(look(0, Counts()), look(1, Counts(), page)).rows
    assert (row.p50_ms, row.p99_ms, row.queue, row.failures, row.new_failures) == (1.5, 9, 7, 3, 3)
    assert (row.utilization, row.memory_bytes) == (None, None)


def test_the_server_as_a_whole_is_told_from_its_own_metrics() -> None:
    page = (
        "ortolan_utilization 0.5\nprocess_resident_memory_bytes 1024\n"
        'ortolan_error_responses_total{protocol="http",code="400"} 2\n'
        'ortolan_error_responses_total{protocol="grpc",code="INTERNAL"} 3\n'
        'ortolan_model_utilization{model="m",version="1"} 0.25\nortolan_model_memory_bytes{model="m",version="1"} 10\n'
    )
    found = status(look(0, Counts()), look(1, Counts(), page))
    assert (found.utilization, found.errors, found.memory_bytes) == (0.5, 5, 1024)
    assert (found.rows[0].utilization, found.rows[0].memory_bytes) == (0.25, 10)


def test_a_model_that_is_not_there_has_a_reason_and_no_numbers() -> None:
    entry = Entry("m", "", "UNAVAILABLE", "no file")
    (row,) = status(look(0, entry=entry), look(1, entry=entry)).rows
    assert (row.state, row.reason, row.requests_per_s, row.queue) == ("UNAVAILABLE", "no file", None, None)
