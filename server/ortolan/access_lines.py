"""A note of the access log as a line: of text for people, or a JSON object for machines (pure).

Everything that came from a client is cut, and quoted in ASCII: nothing in it ends a line, moves a cursor or passes for
a field of its own.
"""

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

from ortolan.core.request_note import RequestNote

LOGGER = "ortolan.access"
LONGEST_LINE = 4000
"""Characters, all of them ASCII: less than what pipes take whole, so that no other process' lines come between."""
_SHOWN, _SHOWN_OF_LONG_LINES = 512, 64
# What can stand without quotes and be taken for nothing else.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
_MODEL = re.compile(r"/v[12]/models/([^/:]+)(?:/versions/([^/]+))?(?=[/:])")

# Clients, paths and models are the same again and again, which takes half of the time.
_KEPT = 1024


def text_line(note: RequestNote, replica: int = 0) -> str:
    """``TIME INFO ortolan.access: POST /v2/models/m/infer 200 3.214 ms client=… protocol=…``."""
    return next(line for shown in (_SHOWN, _SHOWN_OF_LONG_LINES) if _fits(line := _text(note, replica, shown), shown))


def json_line(note: RequestNote, replica: int = 0) -> str:
    """``{"time": …, "level": "info", "logger": "ortolan.access", "message": …}`` and the fields of the request."""
    return next(line for shown in (_SHOWN, _SHOWN_OF_LONG_LINES) if _fits(line := _json(note, replica, shown), shown))


def _fits(line: str, shown: int) -> bool:
    return len(line) <= LONGEST_LINE or shown == _SHOWN_OF_LONG_LINES


def _text(note: RequestNote, replica: int, shown: int) -> str:
    mark = f" [{replica}]" if replica else ""
    fields = _fields(note, shown)
    asked = _quoted(str(fields.pop("path")))
    if "method" in fields:
        asked = f"{_quoted(str(fields.pop('method')))} {asked}"
    code = fields.pop("status", None) or fields.pop("grpc_status", "")
    rest = " ".join([f"{name}={_quoted(str(value))}" for name, value in fields.items() if name != "duration_ms"])
    return f"{_time(note)} INFO{mark} {LOGGER}: {asked} {code} {fields['duration_ms']:.3f} ms {rest}"


def _json(note: RequestNote, replica: int, shown: int) -> str:
    fields = _fields(note, shown)
    code = fields.get("status") or fields.get("grpc_status", "")
    message = " ".join([str(part) for part in (fields.get("method"), fields["path"], code) if part])
    line: dict[str, str | int | float] = {"time": _time(note), "level": "info", "logger": LOGGER, "message": message}
    if replica:
        line["replica"] = replica
    return json.dumps(line | fields)


def _fields(note: RequestNote, shown: int) -> dict[str, str | int | float]:
    """What is known of the request, in the order in which it is shown."""
    path = _path(note.target)
    model, version = (note.model, note.version) if note.model else _asked(path)
    fields: dict[str, str | int | float] = {"method": note.method} if note.method else {}
    fields["path"] = _cut(path, shown)
    fields["status" if isinstance(note.code, int) else "grpc_status"] = note.code
    fields["duration_ms"] = round(note.duration_ns / 1e6, 3)
    if note.bytes_in >= 0:
        fields["bytes_in"] = note.bytes_in
    fields["bytes_out"] = note.bytes_out
    for name, value in (
        ("client", _address(note.client)),
        ("protocol", note.protocol),
        ("caller", note.caller),
        ("model", model),
        ("version", version),
        ("inference_id", note.inference_id),
        ("request_id", note.request_id),
        ("trace_id", note.trace_id),
        ("error", note.error),
        ("user_agent", _as_text(note.user_agent)),
    ):
        if value:
            fields[name] = value if len(value) <= shown else _cut(value, shown)
    return fields


@lru_cache(_KEPT)
def _asked(path: str) -> tuple[str, str]:
    """The model and the version that a path names."""
    found = _MODEL.match(path)
    return ("", "") if found is None else (unquote(found[1]), found[2] or "")


@lru_cache(_KEPT)
def _path(target: bytes) -> str:
    """The path alone: a query may hold keys, and so may what stands before the host of a whole URL."""
    text = _as_text(target).partition("?")[0].partition("#")[0]
    if text.startswith("/") or text == "*":
        return text
    _, _, rest = text.partition("://")
    return "/" + rest.partition("/")[2] if rest else ""


def _as_text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("ascii", "backslashreplace")


@lru_cache(_KEPT)
def _address(client: object) -> str:
    """``192.0.2.1:50412``, ``[2001:db8::1]:50412``, or what a transport calls its peer otherwise."""
    if isinstance(client, str):
        # grpcio's: ipv4:127.0.0.1:50412, ipv6:%5B::1%5D:50412.
        family, _, address = client.partition(":")
        return unquote(address) if family in ("ipv4", "ipv6") else client
    if isinstance(client, tuple) and len(client) >= 2:
        return f"[{client[0]}]:{client[1]}" if ":" in str(client[0]) else f"{client[0]}:{client[1]}"
    return ""


def _cut(text: str, shown: int) -> str:
    return text if len(text) <= shown else text[:shown] + "..."


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _time(note: RequestNote) -> str:
    return datetime.fromtimestamp(note.time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
