"""What is noted of a call over gRPC, and its id behind the answer."""

from collections.abc import Sequence

from ortolan.core.access_log import AccessLog
from ortolan.core.request_note import REQUEST_ID, RequestNote, valid_request_id

USER_AGENT = "user-agent"

Metadata = Sequence[tuple[str, str]]


def id_in(metadata: Metadata) -> str:
    """What its client calls a call with these metadata; "" for nothing, and for what is no id."""
    return next((valid_request_id(value) for name, value in metadata if name == REQUEST_ID), "")


def agent_in(metadata: Metadata) -> str:
    return next((value for name, value in metadata if name == USER_AGENT), "")


def note_of(log: AccessLog | None, request_id: str, client: object, path: bytes, agent: str) -> RequestNote | None:
    """The note of a call that begins; None where nobody keeps it, and its client gave it no id."""
    if log is None and not request_id:
        return None
    note = RequestNote(log, request_id or (log.new_id() if log is not None else ""), "gRPC", client, "", path)
    note.user_agent = agent
    return note


def trailers_of(note: RequestNote | None) -> list[tuple[str, str]]:
    """What follows the answer, so that its client can name the call."""
    return [] if note is None else [(REQUEST_ID, note.request_id)]
