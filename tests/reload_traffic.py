"""Requests at a steady rate that know which answers are right while the model they ask is loaded anew, and anew."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_models
from callers import rest_body, row
from onnx import TensorProto, helper

_BODY = rest_body(row())
SLOWEST_S = 20.0


def weighty(constant: float, mebibytes: float) -> onnx.ModelProto:
    """y = x + constant, with as many weights as take a while to load; they change nothing."""
    weights = np.random.default_rng(0).normal(size=int(mebibytes * (1 << 18))).astype(np.float32)
    return onnx_models.model(
        [
            helper.make_node("Reshape", ["w", "row"], ["rows"]),
            helper.make_node("ReduceMean", ["rows"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "c"], ["shift"]),
            helper.make_node("Add", ["x", "shift"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        {
            "w": weights,
            "row": np.array([-1], np.int64),
            "zero": np.array(0, np.float32),
            "c": np.array(constant, np.float32),
        },
    )


@dataclass
class Traffic:
    """What became of the requests. ``wrong`` are answers of a version that was not loaded then, or not any more."""

    answers: Counter[float] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    begun: float = 0
    """The constant of the newest model whose load has begun, and so may answer."""
    completed: float = 0
    """That of the newest one whose load was confirmed, so that no older one may answer."""

    def quantile_ms(self, quantile: float) -> float:
        ordered = sorted(self.durations_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000

    async def send(self, port: int, model: str, rate: float, until: asyncio.Event) -> None:
        """Ask ``model``, ``rate`` times a second, whether earlier answers are there or not, until the event is set."""
        connections: asyncio.Queue[_Connection] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        start, due = loop.time(), 0
        async with asyncio.TaskGroup() as requests:
            while not until.is_set():
                while due < (loop.time() - start) * rate:
                    due += 1
                    requests.create_task(self._one(port, model, connections))
                await asyncio.sleep(1 / rate)
        while not connections.empty():
            connections.get_nowait().close()

    async def _one(self, port: int, model: str, free: "asyncio.Queue[_Connection]") -> None:
        connection = free.get_nowait() if not free.empty() else await _Connection.open(port)
        oldest, start = self.completed, time.perf_counter()
        status, body = await asyncio.wait_for(connection.call(f"/v2/models/{model}/infer", _BODY), SLOWEST_S)
        self.durations_s.append(time.perf_counter() - start)
        free.put_nowait(connection)
        if status != 200:
            self.failed.append(f"{status} {body[:200]!r}")
            return
        value = float(json.loads(body)["outputs"][0]["data"][0])
        self.answers[value] += 1
        if not oldest <= value <= self.begun:
            self.wrong.append(f"{value}, where {oldest} to {self.begun} were right")


class _Connection:
    """One kept-alive connection that carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def call(self, path: str, body: bytes) -> tuple[int, bytes]:
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def control(port: int, model: str, action: str, parameters: dict[str, object] | None = None) -> tuple[int, bytes]:
    """Load or unload a model; the status and the body."""
    connection = await _Connection.open(port)
    try:
        body = json.dumps({"parameters": parameters or {}}).encode()
        return await connection.call(f"/v2/repository/models/{model}/{action}", body)
    finally:
        connection.close()


def made(repository: Path, reloads: int, mebibytes: float) -> list[Path]:
    """Files that replace that of the model ``m`` one after the other, out of the server's sight beside it."""
    served = repository / "m" / "1"
    return [onnx_models.save(weighty(i, mebibytes), served / f".{i}") for i in range(1, reloads + 1)]


async def reload_under(traffic: Traffic, port: int, files: Sequence[Path]) -> None:
    """Replace the model ``m`` by each of the ``files``, renamed over the old one, and a load by the API."""
    for value, file in enumerate(files, start=1):
        traffic.begun = value
        file.rename(file.with_name("model.onnx"))
        status, body = await control(port, "m", "load")
        if status != 200:
            traffic.failed.append(f"load: {status} {body[:200]!r}")
        traffic.completed = value


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
