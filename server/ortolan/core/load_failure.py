"""How a load failed: what the index, clients and the log are told of it, and whether it may mend itself.

A copy that stalls looks like one that is complete. What is loaded of it then fails as something that is cut short or
missing, which is told as incomplete until its files have rested for ``PATIENCE_S``: the change that completes it has it
loaded again.
"""

import enum
import re
from dataclasses import dataclass

from ortolan.errors import Incomplete, OrtolanError

PATIENCE_S = 10.0
INCOMPLETE = "incomplete, trying again when it changes"


class Origin(enum.Enum):
    """What a version is loaded from, as the subject of a sentence."""

    REPOSITORY = "the newer files"
    SENT_CONFIG = "the configuration that a client sent"
    SENT_FILES = "the files that a client sent"


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a version was not loaded."""

    error: OrtolanError
    origin: Origin = Origin.REPOSITORY
    serves_on: bool = False
    """Whether what was loaded before goes on serving."""
    patience_s: float = 0.0
    """For how long its files may still be on their way; 0 where a change of them would not be noticed."""

    @property
    def is_passing(self) -> bool:
        """Whether it may mend itself."""
        return self.patience_s > 0 and isinstance(self.error, Incomplete)

    @property
    def passing_reason(self) -> str:
        """What is told while it may."""
        return f"{INCOMPLETE}: {self.reason}"

    @property
    def reason(self) -> str:
        """What is told once it may not."""
        return f"{self.origin.value} failed to load: {self.error.message}" if self.serves_on else self.error.message

    def logged_as_passing(self, name: str) -> str:
        """``passing_reason`` for a log line that begins with the model's ``name``."""
        return f"{INCOMPLETE}: {without_name(name, self.error.message)}"

    def logged(self, name: str) -> str:
        """``reason`` for such a line."""
        said = without_name(name, self.error.message)
        return f"{self.origin.value} failed to load: {said}" if self.serves_on else f"cannot be served: {said}"


def without_name(name: str, message: str) -> str:
    """``message`` for where it has been said already that it is about the model ``name``."""
    found = re.match(rf"model '{re.escape(name)}'(?: version \d+)?(?P<colon>: | )", message)
    if found is None:
        return message
    rest = message[found.end() :]
    return rest if found["colon"] == ": " else f"it {rest}"
