import pytest

from ortolan.bench.advice import advice
from ortolan.bench.figures import Figures
from ortolan.bench.load import Form
from ortolan.bench.measured_server import Point
from ortolan.bench.report import Measured, Report, RowsMeasured, as_text


def figures(rate: float, p50: float = 1.0, p99: float = 2.0, failed: int = 0, generator: float = 0.2) -> Figures:
    return Figures(rate, p50, p99, p99, 100.0, 50.0, generator, {"503": failed} if failed else {}, 0, 1, 5000)


def point(
    rate: float, form: Form = Form.BINARY, clients: int = 1, rows: float | None = None, **more: float
) -> Measured:
    return Measured(Point(form, clients), None, figures(rate, **more), rows)  # type: ignore[arg-type]


def by_rows(*rates: tuple[int, float, float | None]) -> tuple[RowsMeasured, ...]:
    return tuple(RowsMeasured(rows, figures(rate), floor) for rows, rate, floor in rates)


def report(*points: Measured, rows: tuple[RowsMeasured, ...] = ()) -> Report:
    return Report("server", "m", "x FP32 [1, 4]", 0.5, points, rows, "")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (report(point(100.0)), "Nothing:"),
        (report(point(100.0, failed=7)), "7 requests failed (503)"),
        (report(point(150.0), rows=by_rows((1, 100.0, 110.0))), "The model is the limit"),
        (report(point(150.0), rows=by_rows((1, 100.0, 9000.0))), "The model is small"),
        (report(point(150.0), rows=by_rows((1, 100.0, None), (8, 90.0, None))), "Best batch: 8 rows"),
        (report(point(150.0), rows=by_rows((1, 100.0, None), (8, 9.0, None))), "Best batch: 1 row."),
        (
            report(point(90.0, clients=8, rows=1.0), rows=by_rows((1, 9.0, 100.0), (8, 9.0, 400.0))),
            "Batching would pay",
        ),
        (report(point(300.0), point(100.0, Form.JSON)), "HTTP binary makes 3.0 times as many"),
        (report(point(50.0), point(100.0, clients=8), point(101.0, clients=32, p50=9.0)), "8 at a time are enough"),
        (report(point(50.0, p99=30.0)), "slowest hundredth"),
        (report(point(50.0, generator=0.97)), "load generator was busy"),
    ],
)
def test_what_stands_out_is_said(found: Report, said: str) -> None:
    assert any(said in sentence for sentence in advice(found)), advice(found)


@pytest.mark.parametrize(
    ("found", "unsaid"),
    [
        (
            report(point(90.0, clients=8, rows=4.0), rows=by_rows((1, 9.0, 100.0), (8, 9.0, 400.0))),
            "Batching would pay",
        ),
        (report(point(110.0), point(100.0, Form.JSON)), "times as many requests"),
        (report(point(50.0), point(100.0, clients=8)), "are enough"),
    ],
)
def test_what_does_not_stand_out_is_not_said(found: Report, unsaid: str) -> None:
    assert not any(unsaid in sentence for sentence in advice(found))


def test_the_report_names_every_point() -> None:
    found = report(point(1234.5), point(20.0, Form.GRPC, 8), rows=by_rows((1, 10.0, 99.0), (4, 8.0, None)))
    text = as_text(found, ["do it"])
    assert "1,234" in text
    assert "8 clients" in text
    assert "do it" in text
    assert [each["form"] for each in found.as_json([])["points"]] == ["http", "grpc"]  # type: ignore[attr-defined]
