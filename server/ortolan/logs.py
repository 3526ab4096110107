"""Which log lines there are, where they go and how they look: text for people, or one JSON object a line for machines.

Never two lines for one event.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from logging.handlers import WatchedFileHandler

from ortolan.core.log_settings import LogSettings
from ortolan.errors import StartupError
from ortolan.inference.printable import CONTROL_ESCAPES

# A client that went while its answer was being written; metadata that are no text, which are quoted, keys and all.
_NO_ERRORS_OF_GRPCIO = ("ExecuteBatchError raised in core by servicer method", "Invalid encoding on")
# A client's text must not forge a line.
_ESCAPES_IN_TRACEBACKS = {code: escape for code, escape in CONTROL_ESCAPES.items() if code != ord("\n")}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROL_ESCAPES}


def set_up(settings: LogSettings, replica: int = 0) -> Callable[[LogSettings], None]:
    """Let every logger log as ``settings`` say; what comes back lets them log otherwise, but to the same file.

    Each line has the number of the ``replica``, if that is not 0. Raises StartupError when that file cannot be written.
    """
    handler = _handler(settings.log_file)
    logging.getLogger().handlers[:] = [handler]
    apply = partial(_apply, handler, replica)
    apply(settings)
    return apply


def _handler(file: str) -> logging.Handler:
    if not file:
        return logging.StreamHandler(sys.stderr)
    try:
        return _LogFile(file, encoding="utf-8")
    except OSError as error:
        raise StartupError(
            f"--log-file (ORTOLAN_LOG_FILE): cannot write to '{file}': {error.strerror}; choose a file that can be "
            "written, or leave the flag out to log to standard error"
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

    With a replica's number it is ``… WARNING [2] ortolan…``.
    """

    def __init__(self, replica: int = 0) -> None:
        super().__init__()
        self._mark = f" [{replica}]" if replica else ""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().translate(CONTROL_ESCAPES)
        line = f"{_time(record)} {record.levelname}{self._mark} {record.name}: {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_ESCAPES_IN_TRACEBACKS)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line with ``time``, ``level``, ``logger``, ``message`` and, for errors, ``exception``; and with the
    number of the ``replica``, if there are several.
    """

    def __init__(self, replica: int = 0) -> None:
        super().__init__()
        self._replica = {"replica": replica} if replica else {}

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._replica,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False).translate(_JSON_ESCAPES)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
