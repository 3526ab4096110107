"""What is noted of a request over HTTP, and its id in the answer."""

from collections.abc import Mapping
from typing import cast

from starlette.types import Message, Send

from ortolan.core.access_log import AccessLog
from ortolan.core.request_note import GONE_STATUS, REQUEST_ID, RequestNote, valid_request_id
from ortolan.frontends.rest.answer import Answer

NOTE = "ortolan.note"
"""What a scope has of a request that is noted."""
REQUEST_ID_HEADER = REQUEST_ID.encode()
USER_AGENT = b"user-agent"


def note_of(
    log: AccessLog | None, sent_id: bytes | None, protocol: str, client: object, method: str, target: bytes
) -> RequestNote | None:
    """The note of a request that is here; None where nobody keeps it, and its client gave it no id (``sent_id``).

    A client's id that is none is treated as none.
    """
    request_id = valid_request_id(sent_id.decode("latin-1")) if sent_id else ""
    if log is None:
        return RequestNote(None, request_id, protocol, client, method, target) if request_id else None
    return RequestNote(log, request_id or log.new_id(), protocol, client, method, target)


def with_id(answer: Answer, note: RequestNote) -> Answer:
    """``answer``, naming its request."""
    return answer._replace(headers=[*answer.headers, (REQUEST_ID_HEADER, note.request_id.encode())])


def noted(answer: Answer, note: RequestNote) -> Answer:
    """``answer``, which is handed over now, naming its request."""
    note.error = answer.error
    note.answered(answer.status, sum(map(len, answer.body)))
    return with_id(answer, note)


def gone(note: RequestNote | None) -> None:
    """The client went before it was answered."""
    if note is not None:
        note.answered(GONE_STATUS)


def noting(send: Send, note: RequestNote) -> Send:
    """``send``, with the request's id in the answer, and ``note`` told of it."""
    status = 0

    async def send_noted(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, note.request_id.encode())]
        elif message["type"] == "http.response.body":
            note.bytes_out += len(message.get("body", b""))
            if not message.get("more_body", False):
                note.answered(status)
        await send(message)

    return send_noted


def note_in(scope: Mapping[str, object]) -> RequestNote | None:
    return cast("RequestNote | None", scope.get(NOTE))
