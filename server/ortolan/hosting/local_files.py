"""The machine's own files, as contracts may ask for them."""

import os
from collections.abc import Sequence


class LocalFiles:
    """What is not there, or may not be seen, is as if it were nothing."""

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def names(self, path: str) -> Sequence[str]:
        try:
            return sorted(name for name in os.listdir(path) if not name.startswith("."))
        except OSError:
            return ()
