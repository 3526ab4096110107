"""HTTP and gRPC below the clients' libraries: bodies and messages as they are, on connections that are kept."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

import grpc
from callers import LONGEST_S, Reply
from server_process import ServerProcess

from ortolan.protocol import protobuf_messages as messages

HEADER_LENGTH = "Inference-Header-Content-Length"
SERVICE = "inference.GRPCInferenceService"


class Http:
    """One HTTP connection, which asks for one thing after the other."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LONGEST_S)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        self._connection.request(method, path, body, dict(headers or {}))
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("POST", path, body, headers)

    def infer(self, model: str, document: Any, *parts: bytes) -> Reply:
        """``document``, an object or the text of one, and the binary parts, if there are any."""
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {HEADER_LENGTH: str(len(text))} if parts else None
        return self.post(f"/v2/models/{model}/infer", b"".join((text, *parts)), headers)

    @property
    def socket(self) -> object:
        """The connection's socket; None when the server has closed it."""
        return self._connection.sock

    def close(self) -> None:
        self._connection.close()


class Grpc:
    """One gRPC channel, with messages of our own making."""

    def __init__(self, server: ServerProcess) -> None:
        self.channel = grpc.insecure_channel(server.grpc)

    def send(self, method: str, data: bytes, service: str = SERVICE) -> bytes:
        return bytes(self.channel.unary_unary(f"/{service}/{method}")(data, timeout=LONGEST_S))

    def ask(self, method: str, **fields: Any) -> Any:
        """The response of ``method``, whose request has ``fields``."""
        response = messages.message_class(f"inference.{method}Response")
        return response.FromString(self.send(method, self.request(method, **fields)))

    def request(self, method: str, **fields: Any) -> bytes:
        """The request of ``method`` with ``fields``, as it is sent."""
        return bytes(messages.message_class(f"inference.{method}Request")(**fields).SerializeToString())

    def infer(self, request: Any) -> Any:
        return messages.ModelInferResponse.FromString(self.send("ModelInfer", request.SerializeToString()))

    def refusal(self, method: str, data: bytes, service: str = SERVICE) -> tuple[str, str]:
        """The code's name and the text of the error that ``data`` get."""
        try:
            answer = self.send(method, data, service)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        raise AssertionError(f"answered with {answer[:200]!r}")

    def stream(self, *requests: bytes, metadata: Mapping[str, str] | None = None) -> list[Any]:
        """The responses to ``requests`` on one stream. Raises grpc.RpcError when the stream ends badly."""
        method = self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        given = tuple((metadata or {}).items())
        return [
            messages.ModelStreamInferResponse.FromString(data)
            for data in method(iter(requests), timeout=LONGEST_S, metadata=given)
        ]

    def close(self) -> None:
        self.channel.close()
