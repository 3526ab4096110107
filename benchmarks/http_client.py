"""A small HTTP client for measurements: one kept-alive connection that sends what was prepared and reads the answer."""

import socket
from types import TracebackType

import numpy as np

from ortolan.bench.load import Address, Form
from ortolan.bench.prepared_requests import prepared
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor


def inference(model: str, row: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> bytes:
    """A whole request for ``model`` with the FP32 input ``x`` in binary."""
    request = prepared(Form.BINARY, Address("localhost", 80), model, [Tensor("x", FP32, row.shape, row)])
    return request.head + request.body


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
