"""Stands in for pip in documented sessions: what a page has people install is there, or is an extra of ours."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def main(arguments: list[str]) -> int:
    """The exit code: 1 where something cannot be installed so."""
    if arguments[0] != "install":
        sys.stderr.write(f"only pip install is known here, not {arguments[0]}\n")
        return 1
    wrong = [text for text in arguments[1:] if not text.startswith("-") and not _is_right(text)]
    sys.stderr.write("".join(f"{text} is no package of ours, and is not installed\n" for text in wrong))
    return 1 if wrong else 0


def _is_right(text: str) -> bool:
    requirement = Requirement("ortolan" + text.removeprefix(".") if text.startswith(".") else text)
    if requirement.name == "ortolan":
        return requirement.extras <= _PROJECT["optional-dependencies"].keys()
    try:
        return requirement.specifier.contains(version(requirement.name))
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
