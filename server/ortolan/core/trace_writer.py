"""Writing traces to files, in a thread: a disk that is slow or full costs traces, but never a request its time."""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, groupby
from pathlib import Path

from ortolan.core.json_array_file import JsonArrayFile
from ortolan.core.trace import Trace
from ortolan.errors import StartupError

_log = logging.getLogger(__name__)

# Traces of so many bytes may wait for the disk.
_MOST_WAITING_BYTES = 64 << 20
# Traces that come within this time are written together.
_GATHERING_S = 0.1
_LONGEST_CLOSING_S = 5.0
# So many bytes are joined and written at a time: joining keeps every other thread from running.
_PIECE_BYTES = 1 << 20


class TraceFiles:
    """The files of one ``--trace-config triton,file=PATH``: PATH, and PATH.0, PATH.1 and so on."""

    def __init__(self, path: Path) -> None:
        self.main = JsonArrayFile(path)
        self._path = path
        self._numbers = count()

    def next(self) -> JsonArrayFile:
        """The next numbered file; numbers begin with 0 in each process, as Triton's do."""
        return JsonArrayFile(Path(f"{self._path}.{next(self._numbers)}"))


class TraceOutput:
    """Where the traces of one setting go. Only the writer's thread writes here."""

    def __init__(self, files: TraceFiles, traces_per_file: int) -> None:
        """``traces_per_file``: after how many another numbered file is begun; 0 for one file without a number."""
        self._files = files
        self._traces_per_file = traces_per_file
        self._file = files.main
        self._room = 0

    def write(self, traces: Sequence[Trace]) -> None:
        """Raises OSError, and has then written none of ``traces`` or what comes first of them."""
        if not self._traces_per_file:
            _append(self._file, traces)
            return
        while traces:
            if not self._room:
                self._file, self._room = self._files.next(), self._traces_per_file
            part, traces = traces[: self._room], traces[self._room :]
            _append(self._file, part)
            self._room -= len(part)


class TraceWriter:
    """Takes traces on the event loop and writes them in its thread, until it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[TraceOutput, Trace]] = []
        self._waiting_bytes = 0
        self._overflowed = False
        self._closing = threading.Event()
        self._failing = False
        # A disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def put(self, output: TraceOutput, trace: Trace) -> None:
        """Have ``trace`` written soon; it is dropped where too much waits for the disk."""
        with self._changed:
            overflows = self._waiting_bytes > _MOST_WAITING_BYTES
            if not overflows:
                self._waiting.append((output, trace))
                self._waiting_bytes += trace.size_bytes
                self._changed.notify()
        if overflows and not self._overflowed:
            self._overflowed = True
            _log.warning("traces come faster than they can be written; some are left out")
        if not self._thread.ident:
            self._thread.start()

    def close(self) -> None:
        """Return when everything has been written, or when the disk takes too long."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident:
            self._thread.join(_LONGEST_CLOSING_S)

    def _run(self) -> None:
        while waiting := self._gathered():
            for output, pairs in groupby(waiting, key=lambda pair: pair[0]):
                self._write(output, [trace for _, trace in pairs])

    def _gathered(self) -> list[tuple[TraceOutput, Trace]]:
        """What has come, once something has; nothing at the end."""
        with self._changed:
            while not (self._waiting or self._closing.is_set()):
                self._changed.wait()
        self._closing.wait(_GATHERING_S)
        with self._changed:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            return waiting

    def _write(self, output: TraceOutput, traces: Sequence[Trace]) -> None:
        try:
            output.write(traces)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                _log.error("traces cannot be written and are lost until that is mended: %s", error)


def require_writable(path: Path, flag: str) -> None:
    """Raises StartupError, naming ``flag``, where no file can be written at ``path``. Leaves there what there was."""
    existed = path.exists()
    try:
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise StartupError(f"{flag}: cannot write to '{path}': {error.strerror}") from None


def _append(file: JsonArrayFile, traces: Sequence[Trace]) -> None:
    for piece in _pieces(each for trace in traces for each in trace.to_json()):
        file.append(piece)


def _pieces(objects: Iterable[bytes]) -> Iterator[bytes]:
    """``objects`` parted by commas, a few at a time."""
    piece: list[bytes] = []
    size = 0
    for each in objects:
        piece.append(each)
        size += len(each)
        if size >= _PIECE_BYTES:
            yield b",\n".join(piece)
            piece, size = [], 0
    if piece:
        yield b",\n".join(piece)
