"""Print what Ortolan needs with some extras, for pip: ``python requirements.py pyproject.toml cpu,cloud``.

Installed before Ortolan itself, in a layer of their own that stays as it is while only our sources change.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The requirements of a project with ``extras``. Raises KeyError for an extra that it does not have."""
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for extra in extras for each in optional[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), [extra for extra in sys.argv[2].split(",") if extra])))
