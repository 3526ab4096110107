"""What clients changed since the start, so that a replica that comes later can be brought to the same. Pure.

Of what replaces each other only the last is kept; changes of settings are put together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LOADS = ("load", "unload", "place", "displace")
_REGISTER = {"register_system": "system", "register_cuda": "cuda"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done in all replicas; ``number`` grows with time."""

    number: int
    action: str
    arguments: Sequence[Any]


def subject_of(action: str, arguments: Sequence[Any]) -> str:
    """What an action is about: those with the same subject are done one after the other."""
    return f"model {arguments[0]}" if action in LOADS else SETTINGS


SETTINGS = "settings"
"""The subject of everything that is no load, which is all done within milliseconds."""


class Journal:
    """Kept by the supervisor."""

    def __init__(self) -> None:
        self._loads: dict[str, Entry] = {}
        self._settings: dict[str, Entry] = {}
        self._number = 0

    def note(self, action: str, arguments: Sequence[Any]) -> None:
        """``action`` was done in all replicas that there are."""
        self._number += 1
        entry = Entry(self._number, action, arguments)
        if action in LOADS:
            self._loads.pop(arguments[0], None)
            self._loads[arguments[0]] = entry
        elif action in _REGISTER:
            self._settings[f"region {arguments[0]}"] = entry
        elif action == "unregister":
            self._forget_regions(*arguments)
        else:
            self._note_change(entry)

    def loads_since(self, number: int) -> list[Entry]:
        """The last load or unload of each model that was noted after ``number``, in their order."""
        return [entry for entry in self._loads.values() if entry.number > number]

    def settings(self) -> list[Entry]:
        """Everything else that holds now."""
        return list(self._settings.values())

    def _forget_regions(self, kind: str, name: str) -> None:
        for key, entry in list(self._settings.items()):
            if _REGISTER.get(entry.action) == kind and name in ("", entry.arguments[0]):
                del self._settings[key]

    def _note_change(self, entry: Entry) -> None:
        """Of trace settings, by their model, or of log settings."""
        *of, change = entry.arguments
        key = " ".join((entry.action, *of))
        before = self._settings.get(key)
        merged = {**(before.arguments[-1] if before else {}), **change}
        self._settings[key] = Entry(entry.number, entry.action, [*of, merged])
