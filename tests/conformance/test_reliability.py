"""docs/reliability.md names tests that there are, for every promise and every row of bad input."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
LINES = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
PROMISES = range(1, 25)
BAD_INPUTS = range(1, 99)


def numbers(prefix: str) -> list[tuple[int, str]]:
    """The rows whose first cell has numbers with this prefix, and the cell that names their tests."""
    cells = [(cells[0], cells[-1]) for cells in LINES if re.fullmatch(rf"{prefix}\d+(, \d+)*", cells[0])]
    return [(int(number), tests) for first, tests in cells for number in re.findall(r"\d+", first)]


@cache
def functions_of(path: str) -> set[str]:
    nodes = ast.walk(ast.parse((TESTS / path).read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("prefix", "all_of_them"), [("P", PROMISES), ("", BAD_INPUTS)])
def test_every_promise_and_every_bad_input_is_there_once(prefix: str, all_of_them: range) -> None:
    assert [number for number, _ in numbers(prefix)] == [*all_of_them]


def test_each_of_them_has_a_test() -> None:
    assert [number for prefix in ("P", "") for number, tests in numbers(prefix) if not NAMED.search(tests)] == []


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 100
    assert [f"{path}::{test}" for path, test in named if test not in functions_of(path)] == []


def test_a_test_with_a_row_in_its_name_is_named_in_that_row() -> None:
    for number, tests in numbers(""):
        cells = {each for each, beside in numbers("") if beside == tests}
        for _, test in NAMED.findall(tests):
            if found := re.match(r"test_rows?_(\d+)(?:_(?:and|to)_(\d+))?_", test):
                assert cells & {*range(int(found[1]), int(found[2] or found[1]) + 1)}, (number, test)
