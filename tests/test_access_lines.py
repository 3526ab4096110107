"""Lines of the access log: readable, one for each request, and forged by nothing that a client sends."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.access_lines import LONGEST_LINE, json_line, text_line
from ortolan.core.request_note import RequestNote

MOMENT = 1_769_860_800.25
"""2026-01-31T12:00:00.250Z"""
FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)')


def made(**values: object) -> RequestNote:
    told = {"request_id": "r-1", "protocol": "HTTP/1.1", "client": ("192.0.2.1", 50412), "method": "POST"}
    told |= {"target": b"/v2/models/m/infer"}
    begun = {name: values.pop(name, value) for name, value in told.items()}
    note = RequestNote(None, **begun)
    note.time_s, note.duration_ns, note.code = MOMENT, 3_214_000, 200
    for name, value in values.items():
        setattr(note, name, value)
    return note


def fields_of(line: str) -> dict[str, str]:
    """Read back what a line of text has behind its duration."""
    rest = line.partition(" ms")[2]
    found = FIELD.findall(rest)
    assert "".join(f" {name}={value}" for name, value in found) == rest
    assert len({name for name, _ in found}) == len(found)
    return {name: json.loads(value) if value[0] == '"' else value for name, value in found}


def test_a_line_of_text_says_what_was_asked_and_how_it_ended() -> None:
    note = made(caller="team-a", model="m", version="1", inference_id="7", bytes_in=5, bytes_out=9)
    assert text_line(note) == (
        "2026-01-31T12:00:00.250Z INFO ortolan.access: POST /v2/models/m/infer 200 3.214 ms bytes_in=5 bytes_out=9 "
        "client=192.0.2.1:50412 protocol=HTTP/1.1 caller=team-a model=m version=1 inference_id=7 request_id=r-1"
    )


def test_a_json_line_has_a_field_for_each() -> None:
    note = made(target=b"/a.B/C", method="", protocol="gRPC", code="NOT_FOUND", error="NotFound", trace_id="ab")
    assert json.loads(json_line(note, replica=2)) == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "info",
        "logger": "ortolan.access",
        "message": "/a.B/C NOT_FOUND",
        "replica": 2,
        "path": "/a.B/C",
        "grpc_status": "NOT_FOUND",
        "duration_ms": 3.214,
        "bytes_out": 0,
        "client": "192.0.2.1:50412",
        "protocol": "gRPC",
        "request_id": "r-1",
        "trace_id": "ab",
        "error": "NotFound",
    }
    assert " INFO [2] ortolan.access: /a.B/C NOT_FOUND 3.214 ms " in text_line(note, replica=2)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v2/models/m?key=secret", "/v2/models/m"),
        (b"/v2#key=secret", "/v2"),
        (b"http://user:secret@host/v2/models?x=secret", "/v2/models"),
        (b"http://user:secret@host", "/"),
        (b"user:secret@host:80", ""),
        (b"*", "*"),
        (b"", ""),
        (b"/\xff\xfe", r"/\xff\xfe"),
    ],
)
def test_of_what_was_asked_for_only_the_path_is_shown(target: bytes, path: str) -> None:
    line = json_line(made(target=target))
    assert json.loads(line)["path"] == path
    assert "secret" not in line + text_line(made(target=target))


@pytest.mark.parametrize(
    ("target", "model", "version"),
    [
        (b"/v2/models/m/infer", "m", None),
        (b"/v2/models/a%20b/versions/2/generate", "a b", "2"),
        (b"/v1/models/m:predict", "m", None),
        (b"/v2/models/stats", None, None),
        (b"/v2/repository/models/m/load", None, None),
    ],
)
def test_the_model_is_in_the_path_where_nobody_said_more(target: bytes, model: str | None, version: str | None) -> None:
    found = json.loads(json_line(made(target=target)))
    assert (found.get("model"), found.get("version")) == (model, version)


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        (("::1", 5, 0, 0), "[::1]:5"),
        ("ipv4:127.0.0.1:5", "127.0.0.1:5"),
        ("ipv6:%5B::1%5D:5", "[::1]:5"),
        ("unix:", "unix:"),
        (None, None),
    ],
)
def test_clients_are_shown_alike_whatever_the_transport(client: object, shown: str | None) -> None:
    assert json.loads(json_line(made(client=client))).get("client") == shown


nasty = st.text(st.characters(exclude_categories=()) | st.sampled_from('\n\r\t\x1b\x9b\u2028\u202e"\\= \x00\ud800'))
notes = st.builds(
    made,
    target=st.binary(max_size=1500) | st.just(b"/" + b"\xff" * 1023),
    method=nasty,
    caller=nasty,
    model=nasty,
    version=nasty,
    inference_id=nasty,
    error=nasty,
    request_id=nasty | st.just('"' * 128),
    user_agent=nasty | st.binary(max_size=2000) | st.just("\u202e" * 600),
    code=st.sampled_from([200, 503, 499, "OK", "UNAVAILABLE"]),
)


@given(notes)
def test_nothing_that_clients_send_forges_a_line_or_a_field(note: RequestNote) -> None:
    for line in (text_line(note), json_line(note)):
        assert re.fullmatch(r"[ -~]+", line)
        assert len(line) <= LONGEST_LINE
    entry = json.loads(json_line(note))
    assert (entry["level"], entry["logger"]) == ("info", "ortolan.access")
    shown = fields_of(text_line(note))
    assert shown.keys() <= entry.keys()
    for name, value in shown.items():
        # Of lines that would be too long less is shown, and one of the two may be longer than the other.
        shorter, longer = sorted((value.removesuffix("..."), str(entry[name]).removesuffix("...")), key=len)
        assert longer.startswith(shorter)
