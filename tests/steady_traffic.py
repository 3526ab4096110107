"""Inferences at a steady rate, whoever answers them, and what became of each; what has failed is not sent again.

An open loop: requests are sent when they are due, whether earlier ones are answered or not. Where the machine is late,
those that it has missed are not sent all at once, and not counted as sent.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import grpc
import numpy as np
from callers import grpc_array, grpc_request, rest_body

MODEL = "double"
"""What is asked: y = 2x."""

_SLOWEST_S = 20.0
_LATEST_S = 0.25
_REQUEST = "POST /v2/models/{}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_ALONE = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


@dataclass
class Outcome:
    """What became of the requests."""

    due: int = 0
    sent: int = 0
    answered: int = 0
    wrong: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """How many failed, by reason."""
    durations_s: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.failures.total()

    def quantile_ms(self, quantile: float) -> float:
        ordered = sorted(self.durations_s)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


class Refused(Exception):
    """An answer that is none."""


class Caller(Protocol):
    async def call(self, row: np.ndarray) -> np.ndarray:
        """The answer to ``row``. Raises whatever keeps it from that."""

    async def close(self) -> None: ...


async def send_steadily(caller: Caller, rate: float, over: Event) -> Outcome:
    """Ask ``rate`` times a second until ``over`` is set, and wait for the last answers."""
    outcome, loop = Outcome(), asyncio.get_running_loop()
    due_s = loop.time()
    async with asyncio.TaskGroup() as requests:
        while not over.is_set():
            now_s = loop.time()
            while due_s <= now_s:
                outcome.due += 1
                if now_s - due_s < _LATEST_S:
                    requests.create_task(_ask(caller, outcome))
                due_s += 1 / rate
            await asyncio.sleep(due_s - now_s)
    await caller.close()
    return outcome


async def _ask(caller: Caller, outcome: Outcome) -> None:
    outcome.sent += 1
    row = np.full((1, 4), outcome.sent % 1000, np.float32)
    start_s = time.perf_counter()
    try:
        async with asyncio.timeout(_SLOWEST_S):
            answer = await caller.call(row)
    except (OSError, EOFError, TimeoutError, Refused, grpc.RpcError) as error:
        outcome.failures[_reason(error)] += 1
        return
    outcome.durations_s.append(time.perf_counter() - start_s)
    outcome.answered += 1
    outcome.wrong += not np.array_equal(answer, 2 * row)


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name} {error.details()}"[:120]
    return f"{type(error).__name__} {error}" if isinstance(error, Refused) else type(error).__name__


class RestCaller:
    """Keeps connections open, to whichever port ``choose`` says for each request; drops those that were closed."""

    def __init__(self, choose: Callable[[], int]) -> None:
        self._choose = choose
        self._idle: dict[int, list[_Connection]] = {}

    async def call(self, row: np.ndarray) -> np.ndarray:
        idle = self._idle.setdefault(self._choose(), [])
        while idle and idle[-1].is_closed:
            idle.pop().close()
        port = next(port for port, connections in self._idle.items() if connections is idle)
        connection = idle.pop() if idle else await _Connection.open(port)
        try:
            body, is_last = await connection.call(rest_body(row))
        except BaseException:
            connection.close()
            raise
        if is_last:
            connection.close()
        else:
            idle.append(connection)
        return np.array(json.loads(body)["outputs"][0]["data"]).reshape(row.shape)

    async def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()


class GrpcCaller:
    """One channel. By itself gRPC sends only those calls again that no server has taken."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_ALONE)
        self._infer: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(_INFER)

    async def call(self, row: np.ndarray) -> np.ndarray:
        return grpc_array(await self._infer(grpc_request(MODEL, row), timeout=_SLOWEST_S))

    async def close(self) -> None:
        await self._channel.close()


class _Connection:
    """Carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it, as any client's pool looks before it sends."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def call(self, body: bytes) -> tuple[bytes, bool]:
        """The answer's body, and whether it is the connection's last."""
        self._writer.write(_REQUEST.format(MODEL, len(body)).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        answer = await self._reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200 "):
            raise Refused(f"{head[9:12].decode()} {answer[:80]!r}")
        return answer, b"\r\nconnection: close\r\n" in head

    def close(self) -> None:
        with suppress(OSError):
            self._writer.close()
