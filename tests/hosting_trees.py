"""Directories as contracts see them, without a disk."""

from collections.abc import Mapping, Sequence

from ortolan.hosting.contract import Surroundings


class Directories:
    """Directories with nothing in them."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    def is_directory(self, path: str) -> bool:
        return path in self._paths

    def names(self, path: str) -> Sequence[str]:  # noqa: ARG002
        return ()


def surroundings(environment: Mapping[str, str], *directories: str, models_are_told: bool = False) -> Surroundings:
    return Surroundings(environment, Directories(*directories), models_are_told)
