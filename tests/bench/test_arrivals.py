import pytest

from ortolan.bench.arrivals import arrivals


def test_moments_are_in_order_and_within_the_time() -> None:
    moments = list(arrivals(1000, 2, seed=1))
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] < 2


def test_as_many_come_as_the_rate_says() -> None:
    assert len(list(arrivals(1000, 10, seed=1))) == pytest.approx(10_000, rel=0.05)


def test_the_same_seed_gives_the_same_moments() -> None:
    assert list(arrivals(50, 1, seed=3)) == list(arrivals(50, 1, seed=3)) != list(arrivals(50, 1, seed=4))
