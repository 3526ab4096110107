"""The Server-Timing header as its standard has it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.frontends.server_timing import server_timing
from ortolan.inference.request import ResponseTiming


@pytest.mark.parametrize(
    ("timing", "encode_ns", "expected"),
    [
        (
            ResponseTiming(31_000, 1_200_000, 8),
            10_000,
            'queue;dur=0.031, batch;desc="8", compute;dur=1.200, encode;dur=0.010',
        ),
        (ResponseTiming(0, 0, 1), 0, 'queue;dur=0.000, batch;desc="1", compute;dur=0.000, encode;dur=0.000'),
        (
            ResponseTiming(10**12, 499, 4096),
            500_000_000,
            'queue;dur=1000000.000, batch;desc="4096", compute;dur=0.000, encode;dur=500.000',
        ),
    ],
)
def test_where_the_time_went_is_said_in_milliseconds(timing: ResponseTiming, encode_ns: int, expected: str) -> None:
    assert server_timing(timing, encode_ns) == expected


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(1, 10**6), st.integers(0, 10**15))
def test_it_is_a_list_of_metrics_with_parameters(queue: int, compute: int, rows: int, encode: int) -> None:
    metric = r'[a-z]+;(dur=[0-9]+\.[0-9]{3}|desc="[0-9]+")'
    assert re.fullmatch(rf"{metric}(, {metric}){{3}}", server_timing(ResponseTiming(queue, compute, rows), encode))
