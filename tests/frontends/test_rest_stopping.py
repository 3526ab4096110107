"""What a client is told whose request is still at work when the server stops."""

import asyncio
import json
from typing import Any, cast

import pytest

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_manager import ModelManager
from ortolan.frontends.rest.app import RestApp
from ortolan.frontends.rest.inference_exchange import RestOptions


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/models/m/load", "/v2/models/m/infer"])
async def test_a_request_that_a_stopping_server_cancels_is_told_so(path: str) -> None:
    # None of these requests gets as far as the models.
    core = InferenceCore(cast(ModelManager, None), "ortolan", "explicit", True)
    core.set_draining()
    app = RestApp(core, RestOptions(1000))
    asked = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("no body ever comes")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    request = asyncio.create_task(app(scope, receive, send))
    await asked.wait()
    request.cancel()
    await request
    assert sent[0]["status"] == 503
    assert "stopped before" in json.loads(sent[1]["body"])["error"]
