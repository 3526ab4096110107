"""Which log lines there are, where they go and how they look: text for people, or one JSON object a line for machines.

Never two lines for one event.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from logging.handlers import WatchedFileHandler
from typing import TextIO

from ortolan.access_lines import LOGGER, LONGEST_LINE, json_line, text_line
from ortolan.core.log_settings import LogSettings
from ortolan.core.request_note import RequestNote
from ortolan.errors import StartupError
from ortolan.inference.printable import CONTROL_ESCAPES
from ortolan.log_stream import StandardStream, StreamHandler

# A client that went while its answer was being written; metadata that are no text, which are quoted, keys and all.
_NO_ERRORS_OF_GRPCIO = ("ExecuteBatchError raised in core by servicer method", "Invalid encoding on")
# A client's text must not forge a line.
_ESCAPES_IN_TRACEBACKS = {code: escape for code, escape in CONTROL_ESCAPES.items() if code != ord("\n")}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROL_ESCAPES}


def set_up(settings: LogSettings, replica: int = 0, access_log_file: str = "", *, of_server: bool = False) -> "Logs":
    """Let every logger log as ``settings`` say; what comes back lets them log otherwise, but to the same file.

    Each line has the number of the ``replica``, if that is not 0. ``access_log_file``: where lines of the access log
    go, "" for where all others go, "-" for standard output. ``of_server``: nobody who logs waits for standard error.
    Raises StartupError when a file cannot be written.
    """
    handler: logging.Handler
    if settings.log_file:
        handler = _file(settings.log_file, "--log-file (ORTOLAN_LOG_FILE)", "to log to standard error")
    elif of_server and (errors := _standard(sys.stderr)):
        handler = StreamHandler(errors)
    else:
        handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().handlers[:] = [handler]
    logs = Logs(handler, _access_lines(handler, settings.log_file, access_log_file), replica)
    logs(settings)
    return logs


def _access_lines(handler: logging.Handler, log_file: str, access_log_file: str) -> Callable[[str], None]:
    """Writes lines of the access log. Its thread waits for a stream that is not read, and holds no lock meanwhile."""
    if access_log_file == "-":
        stream = _standard(sys.stdout)
        return stream.write if stream else _handled(logging.StreamHandler(sys.stdout))
    if access_log_file:
        flag = "--access-log-file (ORTOLAN_ACCESS_LOG_FILE)"
        return _handled(_file(access_log_file, flag, "to log requests where everything else is logged"))
    stream = None if log_file else _standard(sys.stderr)
    return stream.write if stream else _handled(handler)


def _handled(handler: logging.Handler) -> Callable[[str], None]:
    def write(lines: str) -> None:
        handler.handle(_WrittenLines(lines))

    return write


def _standard(stream: TextIO | None) -> StandardStream | None:
    """None where there is no descriptor: a program that is started without one, a test that captures."""
    try:
        return StandardStream(stream) if stream else None
    except (OSError, AttributeError, ValueError):
        return None


class Logs:
    """How the process logs."""

    def __init__(self, handler: logging.Handler, write_lines: Callable[[str], None], replica: int) -> None:
        """``write_lines`` is for the access log."""
        self._handler = handler
        self._write_lines = write_lines
        self._replica = replica
        self._line: Callable[[RequestNote], str]

    def __call__(self, settings: LogSettings) -> None:
        """Log as ``settings`` say from now on, but to the same file."""
        _apply(self._handler, self._replica, settings)
        as_line = json_line if settings.log_format == "json" else text_line
        self._line = partial(as_line, replica=self._replica)

    def write_access(self, notes: Sequence[RequestNote]) -> None:
        """Write a line for each of ``notes``. For any thread."""
        for text in _joined(map(self._line, notes)):
            self._write_lines(text)


class _WrittenLines(logging.LogRecord):
    """Lines that look already as they are to, and are written whatever else is not."""

    def __init__(self, lines: str) -> None:
        super().__init__(LOGGER, logging.INFO, "", 0, lines, None, None)


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """``lines`` in pieces that a pipe takes whole: other replicas write to it as well."""
    piece: list[str] = []
    size = 0
    for line in lines:
        if piece and size + len(line) >= LONGEST_LINE:
            yield "\n".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line) + 1
    if piece:
        yield "\n".join(piece)


def _file(file: str, flag: str, otherwise: str) -> logging.Handler:
    try:
        return _LogFile(file, encoding="utf-8")
    except OSError as error:
        raise StartupError(
            f"{flag}: cannot write to '{file}': {error.strerror}; choose a file that can be written, or leave the flag "
            f"out {otherwise}"
        ) from None


class _LogFile(WatchedFileHandler):
    """Notices when the file is moved away, as log rotation does, and begins another.

    A line that cannot be written, on a full disk for example, is lost; what wanted to log it goes on.
    """

    _failing = False

    def emit(self, record: logging.LogRecord) -> None:
        before, self._failing = self._failing, False
        try:
            super().emit(record)
        except OSError:  # No other file could be begun.
            self.handleError(record)
        if self._failing and not before:
            with contextlib.suppress(OSError):
                sys.stderr.write("ortolan: log lines cannot be written and are lost until that is mended\n")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if isinstance(sys.exc_info()[1], OSError):
            self._failing = True
        else:
            super().handleError(record)


def _apply(handler: logging.Handler, replica: int, settings: LogSettings) -> None:
    verbose = settings.log_verbose_level
    handler.setFormatter(JsonFormatter(replica) if settings.log_format == "json" else TextFormatter(replica))
    handler.filters[:] = [partial(_is_wanted, settings), _is_no_lost_client]
    logging.getLogger().setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    logging.getLogger("ortolan").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Uvicorn's own start-up lines would say in six lines what our summary says in one.
    logging.getLogger("uvicorn").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    # It tells of every burst of file events, at INFO.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def _is_wanted(settings: LogSettings, record: logging.LogRecord) -> bool:
    """Debugging lines depend on the loggers' levels only, as in Triton: their own switch is how verbose it is."""
    if isinstance(record, _WrittenLines):
        return True
    if record.levelno >= logging.ERROR:
        return settings.log_error
    if record.levelno >= logging.WARNING:
        return settings.log_warning
    return settings.log_info or record.levelno < logging.INFO


def _is_no_lost_client(record: logging.LogRecord) -> bool:
    """False for what grpcio calls an error, and is something that a client did."""
    return not (record.name.startswith("grpc.") and record.getMessage().startswith(_NO_ERRORS_OF_GRPCIO))


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z WARNING ortolan.core.model_manager: …``; control characters are escaped.

    With a replica's number it is ``… WARNING [2] ortolan…``; with a request's id, ``… (request abc)`` is behind it.
    """

    def __init__(self, replica: int = 0) -> None:
        super().__init__()
        self._mark = f" [{replica}]" if replica else ""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, _WrittenLines):
            return record.getMessage()
        text = record.getMessage().translate(CONTROL_ESCAPES)
        if request_id := _request_id(record):
            text += f" (request {request_id.translate(CONTROL_ESCAPES)})"
        line = f"{_time(record)} {record.levelname}{self._mark} {record.name}: {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_ESCAPES_IN_TRACEBACKS)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line with ``time``, ``level``, ``logger``, ``message`` and, for errors, ``exception``; and with the
    number of the ``replica``, if there are several; and with ``request_id``, where it is about one that has one.
    """

    def __init__(self, replica: int = 0) -> None:
        super().__init__()
        self._replica = {"replica": replica} if replica else {}

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, _WrittenLines):
            return record.getMessage()
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._replica,
        }
        if request_id := _request_id(record):
            entry["request_id"] = request_id
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False).translate(_JSON_ESCAPES)


def _request_id(record: logging.LogRecord) -> str:
    """Of the request that the line is about: whoever logs it says so as ``extra``."""
    return str(getattr(record, "request_id", "") or "")


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
