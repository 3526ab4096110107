import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from ortolan.commands.metrics_text import Sample, buckets, quantile, samples

INF = math.inf


def test_samples_are_read_by_name_with_their_labels() -> None:
    text = '# HELP a b\n# TYPE a gauge\na 1\na{model="m",version="1"} 2.5\nb{x="1"} 3 17\nc{} 4\n'
    page = samples(text, {"a", "b", "c"})
    assert page["a"] == [Sample({}, 1.0), Sample({"model": "m", "version": "1"}, 2.5)]
    assert page["b"] == [Sample({"x": "1"}, 3.0)]
    assert page["c"] == [Sample({}, 4.0)]


def test_names_that_nobody_asks_for_and_lines_that_are_none_are_left_out() -> None:
    assert samples("a 1\nab 2\nhello\n{} 3\na x\n<html>\n\n", {"ab", "hello"}) == {"ab": [Sample({}, 2.0)]}


def test_a_summary_of_nothing_tells_no_number() -> None:
    assert samples('a{quantile="0.5"} NaN\na{quantile="0.99"} Nan\n', {"a"}) == {}


@given(value=st.floats(allow_nan=False), label=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))))
def test_what_prometheus_own_library_writes_is_read(value: float, label: str) -> None:
    registry = CollectorRegistry()
    Gauge("a", "b", ["x"], registry=registry).labels(label).set(value)
    assert samples(generate_latest(registry).decode(), {"a"}) == {"a": [Sample({"x": label}, value)]}


@given(st.text())
def test_no_text_whatever_raises_anything(text: str) -> None:
    samples(text, {"a"})


def test_buckets_are_in_the_order_of_their_bounds() -> None:
    told = [Sample({"le": "+Inf"}, 5), Sample({"le": "0.1"}, 2), Sample({"le": "x"}, 9), Sample({"le": "1.0"}, 4)]
    assert buckets(told) == ((0.1, 2), (1.0, 4), (INF, 5))


@pytest.mark.parametrize(
    ("share", "since", "now", "value"),
    [
        (0.5, (), (), None),
        (0.5, (), ((1.0, 0), (INF, 0)), None),
        (0.5, (), ((1.0, 10), (2.0, 10), (INF, 10)), 0.5),  # even within a bucket
        (0.5, (), ((1.0, 0), (2.0, 10), (INF, 10)), 1.5),
        (0.99, (), ((1.0, 98), (2.0, 100), (INF, 100)), 1.5),
        (0.99, (), ((1.0, 50), (2.0, 60), (INF, 100)), 2.0),  # no more is known than the highest bound
        (0.5, ((1.0, 90), (2.0, 90), (INF, 90)), ((1.0, 90), (2.0, 100), (INF, 100)), 1.5),  # what came in between
        (0.5, ((1.0, 10), (INF, 10)), ((1.0, 10), (INF, 10)), None),
    ],
)
def test_a_quantile_is_that_of_what_came_between_two_looks(
    share: float, since: tuple[tuple[float, float], ...], now: tuple[tuple[float, float], ...], value: float | None
) -> None:
    found = quantile(share, since, now)
    assert found == (None if value is None else pytest.approx(value))
