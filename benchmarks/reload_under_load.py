"""Models that change under load: 200 requests a second through 20 reloads, and what loading costs the others.

Run by `make reload`. Starts the installed server on free loopback ports and reports requests that failed, answers of a
version that was not to answer, the latency of one model while another, larger one is loaded again and again beside it,
and resident memory and descriptors before and after 200 loads and unloads. Exit code 1 when a promise is broken that
does not depend on the machine's speed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import onnx_models
from callers import ask
from reload_traffic import Traffic, control, descriptors, made, reload_under, resident_mib, weighty
from server_process import ServerProcess, eventually, running

RATE = 200
RELOADS = 20
MEBIBYTES = 8.0
LARGE_MEBIBYTES = 168.0
CYCLES = 200
WARM_UP_CYCLES = 20
LARGEST_GROWTH_MIB = 32


async def through_reloads(server: ServerProcess, files: Sequence[Path]) -> Traffic:
    traffic, over = Traffic(), asyncio.Event()
    sending = asyncio.create_task(traffic.send(server.http_port, "m", RATE, over))
    await reload_under(traffic, server.http_port, files)
    over.set()
    await sending
    return traffic


async def beside_loads(server: ServerProcess, seconds: float, loading: bool) -> tuple[Traffic, int]:
    """The requests of a model that does not change, and how often another one was loaded meanwhile."""
    traffic, over, loads = Traffic(), asyncio.Event(), 0
    sending = asyncio.create_task(traffic.send(server.http_port, "small", RATE, over))
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        if loading:
            await control(server.http_port, "large", "load", {"force": True})
            loads += 1
        else:
            await asyncio.sleep(0.1)
    over.set()
    await sending
    return traffic, loads


async def cycles(port: int, count: int) -> None:
    for _ in range(count):
        for action in ("load", "unload"):
            status, body = await control(port, "m", action)
            if status != 200:
                raise RuntimeError(f"{action}: {status} {body[:300]!r}")


def settled(server: ServerProcess) -> tuple[float, int]:
    """Resident MiB and open descriptors, once every version that was unloaded is gone."""

    def gone() -> bool:
        entries = ask(server, "POST", "/v2/repository/index").json
        return all(each.get("reason") == "unloaded" for each in entries if each["name"] == "m")

    eventually(gone)
    return resident_mib(server.process.pid), descriptors(server.process.pid)


def report_reloads(traffic: Traffic) -> bool:
    total = sum(traffic.answers.values()) + len(traffic.failed)
    print(f"{total} requests at {RATE}/s through {RELOADS} reloads of {MEBIBYTES:g} MiB")
    print(f"failed {len(traffic.failed)}, answered by the wrong version {len(traffic.wrong)}")
    print(f"versions that answered {len(traffic.answers)}; p50 {traffic.quantile_ms(0.5):.2f} ms, ", end="")
    print(f"p99 {traffic.quantile_ms(0.99):.2f} ms")
    for line in (*traffic.failed[:3], *traffic.wrong[:3]):
        print(f"  {line}")
    return not traffic.failed and not traffic.wrong


def report_neighbours(alone: Traffic, beside: Traffic, loads: int) -> bool:
    print(f"a small model alone: p50 {alone.quantile_ms(0.5):.2f} ms, p99 {alone.quantile_ms(0.99):.2f} ms")
    print(
        f"while one of {LARGE_MEBIBYTES:g} MiB was loaded {loads} times: p50 {beside.quantile_ms(0.5):.2f} ms, "
        f"p99 {beside.quantile_ms(0.99):.2f} ms; p99 ratio {beside.quantile_ms(0.99) / alone.quantile_ms(0.99):.2f}"
    )
    return not alone.failed and not beside.failed


def report_cycles(before: tuple[float, int], after: tuple[float, int]) -> bool:
    print(f"{CYCLES} loads and unloads: resident {before[0]:.0f} → {after[0]:.0f} MiB, ", end="")
    print(f"descriptors {before[1]} → {after[1]}")
    return after[0] - before[0] < LARGEST_GROWTH_MIB and after[1] <= before[1]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=15, help="how long latencies are measured")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        onnx_models.save_version(repository, "m", weighty(0, MEBIBYTES))
        onnx_models.save_version(repository, "small", onnx_models.adder(0))
        onnx_models.save_version(repository, "large", weighty(0, LARGE_MEBIBYTES))
        # Before anything is measured: who measures must not be kept busy by something else.
        files = made(repository, RELOADS, MEBIBYTES)
        flags = ("--model-control-mode=explicit", "--load-model=m", "--load-model=small")
        with running(repository, *flags, "--calibration-cache=none") as server:
            kept = report_reloads(asyncio.run(through_reloads(server, files)))
            alone, _ = asyncio.run(beside_loads(server, seconds, loading=False))
            beside, loads = asyncio.run(beside_loads(server, seconds, loading=True))
            kept &= report_neighbours(alone, beside, loads)
            asyncio.run(control(server.http_port, "large", "unload"))
            asyncio.run(cycles(server.http_port, WARM_UP_CYCLES))
            before = settled(server)
            asyncio.run(cycles(server.http_port, CYCLES))
            kept &= report_cycles(before, settled(server))
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
