"""Refusals by both frontends, side by side."""

import base64
import json
from typing import Any
from urllib.parse import quote

from conformance.wire import Grpc, Http
from server_process import ServerProcess

CODES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNIMPLEMENTED": 501, "ALREADY_EXISTS": 400}


class Asker:
    """Calls through both frontends; an answer is a status and the text of its error, in HTTP's numbers for both."""

    def __init__(self, server: ServerProcess) -> None:
        self.http = Http(server)
        self.grpc = Grpc(server)

    def load_http(self, name: str, parameters: dict[str, Any] | None = None) -> tuple[int, str]:
        body = json.dumps({"parameters": as_json(parameters)}) if parameters is not None else b""
        return self.post(f"/v2/repository/models/{quote(name, safe='')}/load", body)

    def load_grpc(self, name: str, parameters: dict[str, Any] | None = None) -> tuple[int, str]:
        given = {key: _as_parameter(value) for key, value in (parameters or {}).items()}
        return self.call("RepositoryModelLoad", model_name=name, parameters=given)

    def post(self, path: str, body: Any = b"") -> tuple[int, str]:
        reply = self.http.post(path, body if isinstance(body, bytes) else body.encode())
        return reply.status, reply.json["error"] if reply.body else ""

    def call(self, method: str, **fields: Any) -> tuple[int, str]:
        """HTTP's status for the code of the refusal, and its text."""
        code, said = self.grpc.refusal(method, self.grpc.request(method, **fields))
        return CODES[code], said

    def close(self) -> None:
        self.http.close()
        self.grpc.close()


def as_json(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in parameters.items()
    }


def _as_parameter(value: Any) -> dict[str, Any]:
    return {"bytes_param": value} if isinstance(value, bytes) else {"string_param": value}


def assert_answers(asker: Asker) -> None:
    """The server goes on, through both."""
    assert asker.http.get("/v2/models/batched/ready").status == 200
    assert asker.grpc.ask("ModelReady", name="batched").ready
