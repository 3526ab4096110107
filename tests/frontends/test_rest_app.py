import json
import logging
from typing import Any, cast

import pytest

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_manager import ModelManager
from ortolan.frontends import status
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.inference_exchange import RestOptions


async def ask(app: RestApp, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an answer, over ASGI alone."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"inputs":[]}', "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/models"), ("GET", "/v2/models/m"), ("POST", "/v2/repository/index"), ("POST", "/v2/models/m/infer")],
)
async def test_a_bug_is_a_500_that_tells_nothing_and_is_logged_once(
    method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    # To have no manager of models is a bug that all of these meet.
    app = RestApp(InferenceCore(cast(ModelManager, None), "ortolan", "explicit", True), RestOptions(1000))
    assert await ask(app, method, path) == (500, {"error": status.INTERNAL_MESSAGE})
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert path in record.getMessage()
    assert record.exc_info
    assert isinstance(record.exc_info[1], AttributeError)
