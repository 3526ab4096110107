"""What the grid says of figures that it was given: which are compared, and how a person reads them."""

import math
from pathlib import Path

import pytest
from grid_report import Cell, GridPoint, GridReport, LeftOut, pairs, summary
from grid_table import markdown

from ortolan.bench.figures import Figures
from ortolan.bench.load import Form


def cell(server: str, rate: float, clients: int = 8, failed: int = 0, generator: float = 0.2, p99: float = 2) -> Cell:
    failures = {"503": failed} if failed else {}
    found = Figures(rate, 1, p99, 3, 100, 50, generator, failures, 0, 1, 5000)
    return Cell(GridPoint("tiny", Form.GRPC, clients), server, found)


def open_loop(server: str, capacity_of: str, rate: float) -> Cell:
    point = GridPoint("tiny", Form.GRPC, 8, 0.5, capacity_of, rate)
    return Cell(point, server, Figures(rate, 1, 2, 3, 100, 50, 0.2, {}, 0, 1, 5000))


def report(*cells: Cell) -> GridReport:
    return GridReport({"date": "2026-01-02", "uvloop": "0.1"}, "--rounds 2", 2, 2, list(cells))


SOUND = (cell("ours", 300), cell("other", 100))


def test_the_mean_is_that_of_our_rates_over_theirs() -> None:
    whole = summary(list(pairs([*SOUND, cell("ours", 400, 32), cell("other", 300, 32)], "ours", "other")))
    assert whole is not None
    assert (whole.mean, whole.least) == (pytest.approx(2), pytest.approx(4 / 3))


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (cell("ours", 1, 32, failed=1), cell("other", 100, 32)),
        (cell("ours", 900, 32), cell("other", 1, 32, failed=1)),
        (cell("ours", 900, 32, generator=0.95), cell("other", 100, 32)),
        (cell("ours", 1, 32), cell("other", 100, 32, generator=0.95)),
    ],
)
def test_what_failed_or_kept_the_generator_busy_is_marked_and_in_no_mean(ours: Cell, other: Cell) -> None:
    found = list(pairs([*SOUND, ours, other], "ours", "other"))
    assert str(summary(found)) == "3.00 (least 3.00; 1 of 2 points)"
    row = next(line for line in markdown(report(*SOUND, ours, other)).splitlines() if "32 at once" in line)
    assert row.endswith("† |")
    assert row.count("†") == 2  # at the server's own figures, and at the ratios


def test_where_nothing_is_sound_there_is_no_mean() -> None:
    cells = (cell("ours", 300, failed=1), cell("other", 100))
    assert summary(list(pairs(cells, "ours", "other"))) is None
    assert "nothing can be compared" in markdown(report(*cells))


def test_open_loops_are_compared_at_one_rate_only_and_are_in_no_mean() -> None:
    equal = (open_loop("ours", "other", 50), open_loop("other", "other", 50))
    found = list(pairs([*SOUND, *equal, open_loop("ours", "ours", 150)], "ours", "other"))
    assert [pair.ours.point.load for pair in found] == ["8 at once", "50% of other: 50.0/s"]
    assert str(summary(found)).endswith("1 of 1 points)")


def test_what_is_unknown_is_a_dash() -> None:
    text = markdown(report(cell("ours", 300, p99=math.nan), cell("other", 100)))
    assert "1.00/-/3.00" in text
    assert "3.00, 1.00, -, 1.00 |" in text


def test_the_table_has_a_row_for_each_point_and_says_where_it_comes_from() -> None:
    found = report(*SOUND, cell("bare", 900), open_loop("ours", "ours", 150))
    found.programs["other"] = "somebody 1.2"
    found.left_out.append(LeftOut("tiny", Form.JSON, "other", "404"))
    text = markdown(found)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert table[2] == (
        "| tiny | gRPC | 8 at once | 300 | 1.00/2.00/3.00 | 100 | 50.0 | 100 | 1.00/2.00/3.00 | 100 | 50.0 "
        "| 900 | 100 | 3.00, 1.00, 1.00, 1.00 |"
    )
    for said in ("`python benchmarks/grid.py --rounds 2`", "2026-01-02", "uvloop 0.1", "other: somebody 1.2", "404"):
        assert said in text


def test_curves_are_drawn_of_marked_and_unknown_figures_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import charts

    cells = [*SOUND, cell("ours", 1, 32, failed=1), cell("other", 1, 32, p99=math.nan), open_loop("ours", "ours", 9)]
    (path,) = charts.draw(cells, tmp_path)
    assert path.stat().st_size > 1000
