"""benchmarks/grid.py: what is measured in which order, and on real servers, briefly, that all cells come out."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import grid
import pytest
from grid_report import Cell, GridPoint, GridReport, LeftOut
from server_process import running

from ortolan.bench.figures import Figures
from ortolan.bench.load import Form
from ortolan.bench.measured_server import Point
from ortolan.errors import StartupError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEER = "--peer=other=host:1,host:2"
POINT = GridPoint("m", Form.GRPC, 1)


def plan(*arguments: str) -> grid.Plan:
    return grid.plan_of(grid.parser().parse_args(arguments))


def found_figures(failed: int = 0) -> Figures:
    return Figures(1, 1, 1, 1, None, None, 0.1, {"503": failed} if failed else {}, 0, 1, 1)


def test_every_other_round_goes_the_other_way_also_from_one_point_to_the_next() -> None:
    turns: list[str] = []

    def measured(name: str, point: Point) -> Figures:
        assert point == Point(Form.GRPC, 1)
        turns.append(name)
        return found_figures()

    contenders = grid.Contenders(measured, rounds=3)
    for _ in range(2):
        assert [cell.server for cell in contenders.cells(POINT, ["ours", "other"])] == ["ours", "other"]
    assert turns == ["ours", "other", "other", "ours"] * 3


def test_a_server_that_does_not_answer_is_left_out_with_what_it_said() -> None:
    def measured(name: str, _: Point) -> Figures:
        if name == "other":
            raise StartupError("it\n  answers 404")
        return found_figures()

    contenders = grid.Contenders(measured, rounds=2)
    assert [cell.server for cell in contenders.cells(POINT, ["ours", "other"])] == ["ours"]
    assert contenders.refused == {"other": "it answers 404"}


@pytest.mark.parametrize(
    ("capacities", "ours", "expected"),
    [
        ({"ours": 9.0, "other": 3.0}, ["ours"], [("other", ["ours", "other"]), ("ours", ["ours"])]),
        ({"ours": 3.0, "other": 9.0}, ["ours"], [("ours", ["ours", "other"])]),
        ({"ours": 3.0}, ["ours"], [("ours", ["ours"])]),
        ({"other": 3.0}, [], [("other", ["other"])]),
        ({"other": 3.0}, ["ours"], [("other", ["other"])]),  # ours answered nothing
        ({}, ["ours"], []),
        (
            {"ours": 9.0, "two": 8.0, "other": 3.0},
            ["ours", "two"],
            [("other", ["ours", "two", "other"]), ("ours", ["ours"]), ("two", ["two"])],
        ),
    ],
)
def test_all_are_asked_at_the_rate_of_the_slowest_and_ours_at_its_own(
    capacities: dict[str, float], ours: Sequence[str], expected: list[tuple[str, list[str]]]
) -> None:
    assert list(grid.open_loops(capacities, ours)) == expected


def test_the_whole_grid_with_one_peer_takes_less_than_twenty_minutes() -> None:
    assert 5 * 60 < plan().duration_s() < plan(PEER).duration_s() < 20 * 60


@pytest.mark.parametrize(
    ("failed", "left_out", "expected"),
    [(0, [], 0), (1, [], 1), (0, ["other"], 0), (0, ["ours"], 1)],
)
def test_failures_are_told_by_the_exit_status(failed: int, left_out: list[str], expected: int) -> None:
    found = GridReport({}, "", 2, 2, [Cell(POINT, "other", found_figures(failed))])
    found.left_out += [LeftOut("m", Form.GRPC, server, "why") for server in left_out]
    assert grid.status(found, plan(PEER)) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clients=,"], "--clients: expected at least one"),
        (["--models="], "--models: expected at least one"),
        (["--models=huge"], "--models: expected some of tiny"),
        (["--forms=tcp"], "--forms: expected some of http"),
        (["--rounds=0"], "--rounds"),
        (["--seconds=0"], "--seconds"),
        (["--only-peers"], "needs a --peer"),
        (["--peer=bare=host:1"], "a name of its own"),
        ([PEER, "--variant=other="], "a name of its own"),
    ],
)
def test_what_would_measure_nothing_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises((StartupError, ValueError), match=said):
        plan(*arguments)


def test_where_the_files_go_is_not_told() -> None:
    assert grid.without_out(["--peer", "a=b:1", "--out", "/x", "--rates="]) == "--peer a=b:1 --rates="
    assert grid.without_out(["--out=/x", "--rounds=2"]) == "--rounds=2"


def test_the_grid_has_a_cell_for_each_server_at_each_point(tmp_path: Path) -> None:
    subprocess.run([sys.executable, BENCHMARKS / "grid_models.py", tmp_path / "models"], check=True, timeout=60)
    few = ["--models=tiny", "--clients=1,2", "--rates=0.5", "--seconds=0.1", "--rounds=1", f"--out={tmp_path}"]
    with running(tmp_path / "models" / "tiny") as peer:
        found = subprocess.run(
            [sys.executable, BENCHMARKS / "grid.py", *few, f"--peer=other={peer.http},{peer.grpc}"],
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert found.returncode == 0, found.stderr
    report = json.loads((tmp_path / "grid.json").read_text())
    closed = [(form, clients, server) for form in ("http", "json", "grpc") for clients in (1, 2) for server in _THREE]
    cells = report["cells"]
    assert [_point(each) for each in cells if each["share_of_capacity"] is None] == closed
    for form in ("http", "json", "grpc"):
        rates = {
            each["rate"] for each in cells if each["form"] == form and each["capacity_of"] == _slowest(cells, form)
        }
        asked = [each["server"] for each in cells if each["form"] == form and each["rate"] in rates]
        assert (len(rates), asked) == (1, ["ours", "other"])
    assert all(each["requests_per_s"] > 0 and not each["failed"] for each in cells if not each["rate"])
    assert [each["rows"] for each in report["session_run"]] == [1, 2, 4, 8, 16, 32]
    table = (tmp_path / "grid.md").read_text()
    assert table in found.stdout
    assert "ours / other, requests/s in closed loops" in table
    assert str(tmp_path) not in table
    assert table.count("\n| tiny |") == len({(each["form"], each["clients"], each["rate"]) for each in cells})
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "grid_tiny.png").exists() == drawn


_THREE = ("ours", "other", "bare")


def _point(cell: dict[str, object]) -> tuple[object, ...]:
    return cell["form"], cell["clients"], cell["server"]


def _slowest(cells: list[dict[str, object]], form: str) -> object:
    """Whose capacity it is at whose share both were measured."""
    return next(
        each["capacity_of"]
        for each in cells
        if (each["form"], each["server"], bool(each["rate"])) == (form, "other", True)
    )
