"""What somebody may do with the server: scopes, each for all models or for those whose names match (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Pattern = Sequence[str]
"""What stands between the stars, each of which is any text."""


class Scope(StrEnum):
    """A kind of thing that may be done."""

    INFER = "infer"
    """Asking models."""
    READ = "read"
    """Looking at what is served, how, and how much of it was asked."""
    ADMIN = "admin"
    """Loading and unloading, and changing what is logged, traced and shared."""


_SCOPE_NAMES = ", ".join(Scope)


@dataclass(frozen=True, slots=True)
class Grant:
    """What ``holder`` may do: for each scope that is held patterns of models' names; None for all models."""

    holder: str
    patterns: Mapping[Scope, Sequence[Pattern] | None]
    is_anybodys: bool = False
    """Whether all have it, because nobody is asked who they are."""

    def allows(self, scope: Scope, model: str | None) -> bool:
        """Whether ``scope`` is held for ``model``; without a model, for all that there are."""
        if scope not in self.patterns:
            return False
        patterns = self.patterns[scope]
        return patterns is None or (model is not None and any(matches(pattern, model) for pattern in patterns))

    def holds(self, scopes: Iterable[Scope]) -> bool:
        """Whether one of ``scopes`` is held, if only for some models."""
        return any(scope in self.patterns for scope in scopes)


ANYBODY = Grant("anybody", dict.fromkeys(Scope), is_anybodys=True)
ANYBODY_BUT_ADMIN = Grant("anybody", dict.fromkeys((Scope.INFER, Scope.READ)), is_anybodys=True)


def parse_grant(holder: str, scopes: Iterable[str]) -> Grant:
    """The grant of ``infer``, ``read``, ``admin``, or of ``infer@PATTERN`` for some models; of all without any.

    Raises ValueError, which quotes it, for a text that is no scope.
    """
    models: dict[Scope, list[str]] = {}
    for text in scopes:
        name, at, pattern = text.partition("@")
        if name not in Scope.__members__.values() or (at and not pattern):
            raise ValueError(f"unknown scope '{text[:64]}'; there are {_SCOPE_NAMES}, and such as infer@MODEL")
        models.setdefault(Scope(name), []).append(pattern or "*")
    return Grant(holder, {scope: _compiled(patterns) for scope, patterns in models.items()} or dict.fromkeys(Scope))


def matches(pattern: Pattern, name: str) -> bool:
    """Whether ``name`` has the parts of ``pattern`` in their order, from its beginning to its end.

    In linear time: names come from clients, and a regular expression of a few stars takes the cube of their length.
    """
    first, *others = pattern
    if not others:
        return name == first
    *middle, last = others
    at, end = len(first), len(name) - len(last)
    if at > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _compiled(patterns: Sequence[str]) -> Sequence[Pattern] | None:
    return None if "*" in patterns else tuple(tuple(pattern.split("*")) for pattern in patterns)
