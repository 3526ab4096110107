"""A small HTTP client for measurements: one kept-alive connection that sends what was prepared and reads the answer."""

import json
import socket
from types import TracebackType

import numpy as np


def inference(model: str, row: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> bytes:
    """A whole request for ``model`` with the FP32 input ``x`` in binary."""
    tensor = {"name": "x", "shape": row.shape, "datatype": "FP32", "parameters": {"binary_data_size": row.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = head + row.tobytes()
    start = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return start.encode() + body


class Client:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, request: bytes) -> bytes:
        """The head of the answer to ``request``, once its body is there too. Raises RuntimeError unless it is 200."""
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 16)
        while not _is_complete(answer):
            more = self._socket.recv(1 << 16)
            if not more:
                raise RuntimeError("the server closed the connection")
            answer += more
        if b" 200 " not in answer[:16]:
            raise RuntimeError(answer[:300])
        return answer.partition(b"\r\n\r\n")[0]


def _is_complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)
