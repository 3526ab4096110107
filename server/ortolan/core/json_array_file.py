"""A file that holds one JSON array, and is whole after every write, however the process ends."""

import contextlib
import os
from io import FileIO
from pathlib import Path

_END = b"\n]\n"


class JsonArrayFile:
    """Grows by elements. It is open during writes only, so it may be moved away in between: then it is begun anew."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet; the first ``append`` replaces a file that is there."""
        self._path = path
        self._elements_end = 0
        """Where the next element goes; 0 before the first."""

    def append(self, elements: bytes) -> None:
        """Add ``elements``, JSON values parted by commas. Raises OSError; the file then has what it had before."""
        with self._opened() as file:
            start = self._elements_end
            text = (b",\n" if start else b"[\n") + elements
            try:
                _write(file, start, text + _END)
            except OSError:
                _undo(file, start)
                raise
            self._elements_end = start + len(text)

    def _opened(self) -> FileIO:
        if self._elements_end:
            with contextlib.suppress(FileNotFoundError):
                file = FileIO(self._path, "r+")
                if os.fstat(file.fileno()).st_size == self._elements_end + len(_END):
                    return file
                file.close()
            self._elements_end = 0
        return FileIO(self._path, "w")


def _write(file: FileIO, position: int, text: bytes) -> None:
    """Write all of ``text``, which may take several turns where the disk is nearly full."""
    file.seek(position)
    left = memoryview(text)
    while left:
        left = left[file.write(left) :]


def _undo(file: FileIO, elements_end: int) -> None:
    """Take back what was written of elements that did not fit, as far as the disk lets us."""
    with contextlib.suppress(OSError):
        file.truncate(elements_end)
        if elements_end:
            _write(file, elements_end, _END)
