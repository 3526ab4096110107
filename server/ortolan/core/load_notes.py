"""What the operator is told of a model's load: each sentence once, with the versions that it is true of."""

import logging
from collections.abc import Iterable

_log = logging.getLogger(__name__)


class LoadNotes:
    """Collects what is to be told of the versions of the model ``name`` while they load, one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers: dict[str, list[int]] = {}

    def add(self, number: int, notes: Iterable[str]) -> None:
        for note in notes:
            numbers = self._numbers.setdefault(note, [])
            if number not in numbers:
                numbers.append(number)

    def tell(self) -> None:
        """Log all of it as warnings."""
        for note, numbers in self._numbers.items():
            which = "version" if len(numbers) == 1 else "versions"
            _log.warning("model '%s' %s %s: %s", self._name, which, ", ".join(map(str, sorted(numbers))), note)
