"""What loading a model costs those that serve: windows without and with a load, in turn, and the ratio of their p99.

Run by `make reload-neighbours`. One small model is asked 200 times a second over REST; beside it another model is
loaded anew, again and again, by force. A machine that does other work as well changes from second to second, so each
window with loads is compared with the one without that is next to it, and the median of those ratios is what counts.
The compiled cache is on, as it is in a server that is started without options; `--without-compiled-cache` shows what it
is worth.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import onnx_models
from large_models import NEIGHBOURS
from reload_traffic import Traffic, control
from server_process import ServerProcess, running

RATE = 200
WINDOW_S = 3.0
MOST = 2.0
SMALL = "small"


@dataclass
class Neighbour:
    """What was seen beside one model: windows in pairs, and how long its loads took."""

    alone: list[Traffic] = field(default_factory=list)
    beside: list[Traffic] = field(default_factory=list)
    loads_s: list[float] = field(default_factory=list)

    def ratios(self, quantile: float) -> list[float]:
        pairs = zip(self.beside, self.alone, strict=True)
        return sorted(beside.quantile_ms(quantile) / alone.quantile_ms(quantile) for beside, alone in pairs)


async def window(port: int, name: str | None, loads_s: list[float]) -> Traffic:
    """The small model's requests for a while, or for as long as the loads of ``name`` take that begin within it."""
    traffic, over, loop = Traffic(), asyncio.Event(), asyncio.get_running_loop()
    sending = asyncio.create_task(traffic.send(port, SMALL, RATE, over))
    end = loop.time() + WINDOW_S
    while loop.time() < end:
        if name is None:
            await asyncio.sleep(end - loop.time())
            continue
        start = time.perf_counter()
        status, body = await control(port, name, "load", {"force": True})
        if status != 200:
            traffic.failed.append(f"load: {status} {body[:200]!r}")
        loads_s.append(time.perf_counter() - start)
    over.set()
    await sending
    return traffic


async def measure(server: ServerProcess, name: str, rounds: int) -> Neighbour:
    """``rounds`` pairs of windows, the one with loads first in every other; a pair before them is not counted."""
    found = Neighbour()
    await control(server.http_port, name, "load")
    for number in range(rounds + 1):
        pair: dict[bool, Traffic] = {}
        for loading in (False, True) if number % 2 else (True, False):
            pair[loading] = await window(server.http_port, name if loading else None, found.loads_s)
        if number:
            found.alone.append(pair[False])
            found.beside.append(pair[True])
    await control(server.http_port, name, "unload")
    return found


def pooled(windows: Sequence[Traffic]) -> Traffic:
    return Traffic(durations_s=[duration for each in windows for duration in each.durations_s])


def quartiles(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def report(name: str, found: Neighbour) -> bool:
    alone, beside = pooled(found.alone), pooled(found.beside)
    figures = [f"{each.quantile_ms(0.5):.2f} / {each.quantile_ms(0.99):.2f}" for each in (alone, beside)]
    failed = [text for each in (*found.alone, *found.beside) for text in each.failed]
    print(
        f"| {name} | {statistics.median(found.loads_s):.2f} s | {figures[0]} | {figures[1]} | "
        f"{quartiles(found.ratios(0.5))} | {quartiles(found.ratios(0.99))} | "
        f"{sum(ratio <= MOST for ratio in found.ratios(0.99))} of {len(found.alone)} | {len(failed)} |",
        flush=True,
    )
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--without-compiled-cache", action="store_true")
    parser.add_argument("models", nargs="*", default=list(NEIGHBOURS), help=", ".join(NEIGHBOURS))
    arguments = parser.parse_args()
    print("| beside | load | alone p50 / p99 ms | beside | ratio of p50 | ratio of p99 | at most 2 | failed |")
    print("|---|---|---|---|---|---|---|---|")
    fine = True
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as compiled:
        repository = Path(folder)
        onnx_models.save_version(repository, SMALL, onnx_models.doubler())
        for name in arguments.models:
            NEIGHBOURS[name](repository, name)
        cache = "off" if arguments.without_compiled_cache else compiled
        flags = (
            "--model-control-mode=explicit",
            f"--load-model={SMALL}",
            "--calibration-cache=none",
            f"--compiled-cache-directory={cache}",
        )
        with running(repository, *flags) as server:
            for name in arguments.models:
                fine &= report(name, asyncio.run(measure(server, name, arguments.rounds)))
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
