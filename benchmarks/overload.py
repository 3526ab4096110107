"""Overload: ten times as many requests as a model can answer, for a minute. Nothing may grow, nothing may hang.

Run by `make overload` (`--seconds` for another length). Starts the installed server on free loopback ports with a model
that takes about 25 ms and one instance, measures its capacity, then sends ten times that rate, open loop, and reports
answers, refusals, how fast the refusals came, requests without an answer, and resident memory before and after.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import onnx_models
from server_process import running

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]}
).encode()
REQUEST = b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: l\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CONFIG = """
max_batch_size: 1
instance_group { count: 1 kind: KIND_CPU }
"""
CONNECTIONS = 512
QUEUE = 64


@dataclass
class Tally:
    """What became of the requests; durations in seconds."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    other: list[bytes] = field(default_factory=list)
    sent: int = 0


class Connection:
    """One kept-alive connection that sends one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def call(self, tally: Tally) -> None:
        start = time.perf_counter()
        tally.sent += 1
        self._writer.write(REQUEST)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        duration = time.perf_counter() - start
        status = head[9:12]
        if status == b"200":
            tally.answered.append(duration)
        elif status == b"503":
            tally.refused.append(duration)
        else:
            tally.other.append(head)


async def connections(port: int, count: int) -> list[Connection]:
    return [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(count)]


async def capacity(port: int) -> float:
    """Requests per second that four clients get answered."""
    tally = Tally()
    end = time.perf_counter() + 3

    async def client(connection: Connection) -> None:
        while time.perf_counter() < end:
            await connection.call(tally)

    await asyncio.gather(*(client(connection) for connection in await connections(port, 4)))
    return len(tally.answered) / 3


async def overload(port: int, rate: float, seconds: float) -> tuple[Tally, int]:
    """Requests at ``rate``, each on a free connection; those for which none was free are counted apart."""
    tally = Tally()
    free = await connections(port, CONNECTIONS)
    busy: set[asyncio.Task[None]] = set()
    without_connection = 0
    start = time.perf_counter()
    due = 0

    async def one(connection: Connection) -> None:
        await connection.call(tally)
        free.append(connection)

    while (now := time.perf_counter() - start) < seconds:
        while due < now * rate:
            due += 1
            if not free:
                without_connection += 1
                continue
            task = asyncio.create_task(one(free.pop()))
            busy.add(task)
            task.add_done_callback(busy.discard)
        await asyncio.sleep(0.002)
    await asyncio.wait_for(asyncio.gather(*busy), 30)
    return tally, without_connection


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def milliseconds(durations: list[float], quantile: float) -> float:
    return sorted(durations)[min(len(durations) - 1, int(len(durations) * quantile))] * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        onnx_models.save_version(repository, "slow", onnx_models.slow(30_000), config=CONFIG)
        with running(repository, f"--max-queue-size={QUEUE}", "--calibration-cache=none") as server:
            rate = asyncio.run(capacity(server.http_port))
            before = resident_mib(server.process.pid)
            tally, without = asyncio.run(overload(server.http_port, 10 * rate, seconds))
            after = resident_mib(server.process.pid)
    print(f"capacity {rate:.0f}/s; offered {10 * rate:.0f}/s for {seconds:.0f} s on {CONNECTIONS} connections")
    silent = tally.sent - len(tally.answered) - len(tally.refused) - len(tally.other)
    print(f"sent {tally.sent}, answered {len(tally.answered)}, refused with 503 {len(tally.refused)}")
    print(f"other answers {len(tally.other)}, without any answer {silent}")
    print(f"not sent for want of a free connection {without}")
    print(f"answered at {len(tally.answered) / seconds:.0f}/s, p50 {milliseconds(tally.answered, 0.5):.1f} ms")
    print(
        f"refusals p50 {statistics.median(tally.refused) * 1000:.2f} ms, p99 {milliseconds(tally.refused, 0.99):.2f} ms"
    )
    print(f"resident {before:.0f} MiB before, {after:.0f} MiB after")


if __name__ == "__main__":
    main()
