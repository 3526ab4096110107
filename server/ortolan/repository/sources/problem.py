"""Why models could not be fetched."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """For the operator: it may name addresses. ``model`` is "" where it is about the whole source.

    ``root`` is the directory or file that takes the source's place on this machine.
    """

    message: str
    root: Path
    model: str = ""

    def concerns(self, model: str, repository: Path | None) -> bool:
        """Whether ``model``, of ``repository`` if it is in any, may not be what it should be because of this."""
        return self.model in ("", model) and repository in (None, self.root)
