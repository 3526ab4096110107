import sys
import tomllib
from pathlib import Path

import pytest

from ortolan.commands.checks.child import Ended
from ortolan.commands.checks.finding import Level
from ortolan.commands.checks.packages import REQUIRED, installed, is_within, judged

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
ALL = dict.fromkeys(REQUIRED, "1.0")
FIRST, SECOND, *_ = REQUIRED.values()


def test_what_is_looked_at_is_what_the_package_asks_for() -> None:
    asked = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert {text.split(">=")[0] for text in asked} == set(REQUIRED)


@pytest.mark.parametrize(
    ("version", "bounds", "within"),
    [
        ("1.2.3", ">=1.2,<2", True),
        ("2.0", ">=1.2,<2", False),
        ("1.10", ">=1.9", True),  # numbers, not letters
        ("1.1.9", ">=1.2", False),
        ("1.2", ">=1.2.0", True),
        ("5.29.0rc1", ">=5.29,<8", True),
        ("1.31.1+cu13", ">=1.23,<2", True),
        ("9", "", True),
        ("3.0", ">2,<=3", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, bounds: str, within: bool) -> None:
    assert is_within(version, bounds) == within


def test_packages_that_are_all_there_are_nothing_to_tell() -> None:
    assert installed({"numpy": ">=1,<2"}, ALL) == []


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    found = {name: version for name, version in ALL.items() if name not in ("orjson", "hpack")}
    (finding,) = installed({}, found)
    assert (finding.level, finding.text) == (Level.BROKEN, "not installed: hpack, orjson")
    assert finding.remedy == "pip install hpack orjson"


def test_a_package_out_of_its_bounds_is_a_warning() -> None:
    (finding,) = installed({"protobuf": ">=5.29,<8"}, {**ALL, "protobuf": "4.25.3"})
    assert finding.level is Level.WARNING
    assert "protobuf 4.25.3 is installed, and protobuf>=5.29,<8 is supported" in finding.text


def test_a_program_that_is_not_what_is_installed_is_told() -> None:
    (finding,) = installed({}, {**ALL, "ortolan": "0.0.1"})
    assert "0.0.1" in finding.text


def test_a_package_that_cannot_be_imported_is_named_with_why() -> None:
    (finding,) = judged(Ended(0, f"{FIRST} imported\n{SECOND} ImportError libx.so is missing\n", ""))
    assert finding.text == f"{SECOND} cannot be imported: ImportError libx.so is missing"


@pytest.mark.parametrize(
    ("code", "how"), [(-11, "was ended by signal 11"), (None, "took too long"), (3, "ended with 3")]
)
def test_a_package_that_takes_the_process_with_it_is_named(code: int | None, how: str) -> None:
    (finding,) = judged(Ended(code, f"{FIRST} imported\n", ""))
    assert finding.text == f"importing {SECOND} {how}"


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there")
def test_every_module_that_is_looked_at_is_one() -> None:
    for module in REQUIRED.values():
        __import__(module)
