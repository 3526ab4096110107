"""Models that change under load: 200 requests a second through 20 reloads, and what 200 loads leave behind.

Run by `make reload`. Starts the installed server on free loopback ports and reports requests that failed, answers of a
version that was not to answer, and resident memory and descriptors before and after 200 loads and unloads. Exit code 1
when a promise is broken that does not depend on the machine's speed. `reload_neighbours.py` has what loads cost others.
"""

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


def report_cycles(before: tuple[float, int], after: tuple[float, int]) -> bool:
    print(f"{CYCLES} loads and unloads: resident {before[0]:.0f} → {after[0]:.0f} MiB, ", end="")
    print(f"descriptors {before[1]} → {after[1]}")
    return after[0] - before[0] < LARGEST_GROWTH_MIB and after[1] <= before[1]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        onnx_models.save_version(repository, "m", weighty(0, MEBIBYTES))
        # Before anything is measured: who measures must not be kept busy by something else.
        files = made(repository, RELOADS, MEBIBYTES)
        flags = ("--model-control-mode=explicit", "--load-model=m")
        with running(repository, *flags, "--calibration-cache=none") as server:
            kept = report_reloads(asyncio.run(through_reloads(server, files)))
            asyncio.run(cycles(server.http_port, WARM_UP_CYCLES))
            before = settled(server)
            asyncio.run(cycles(server.http_port, CYCLES))
            kept &= report_cycles(before, settled(server))
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
