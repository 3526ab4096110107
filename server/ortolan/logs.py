"""How a log line looks: text for people, or one JSON object a line for machines. Never two lines for one event."""

import json
import logging
import sys
from datetime import UTC, datetime

# What moves a terminal's cursor or ends a line somewhere: a client's text must not forge a line.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}
_ESCAPES_IN_TRACEBACKS = {code: escape for code, escape in _ESCAPES.items() if code != ord("\n")}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}


def set_up(verbose: int, as_json: bool) -> None:
    """Send every logger's lines to standard error; ``verbose`` above 0 adds debugging lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    logging.getLogger("ortolan").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Uvicorn's own start-up lines would say in six lines what our summary says in one.
    logging.getLogger("uvicorn").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z WARNING ortolan.core.model_manager: …``; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage().translate(_ESCAPES)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_ESCAPES_IN_TRACEBACKS)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line with ``time``, ``level``, ``logger``, ``message`` and, for errors, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False).translate(_JSON_ESCAPES)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
