"""One model at ten times its capacity, and another that is asked at a steady rate: what the second notices of it.

Run by `make overload-neighbours` (`--seconds` of each load, `--rounds`). The neighbour, a model of microseconds and one
of about two milliseconds, is asked alone and beside the overload in turns, so that a busy machine troubles both alike.
The overloaded model takes about 25 ms and has one instance, and then as many as there are cores. Exit code 1 when the
neighbour lost or failed a request, or its p99 beside the overload is above the bound.
"""

import argparse
import os
import sys
import tempfile
import threading
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx_models

from ortolan.bench.figures import quantile
from ortolan.bench.load import Address, Form, Load, Outcome
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.started_server import started_server
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

ROW = np.array([[1, 2, 3, 4]], np.float32)
ONE = "max_batch_size: 1 instance_group { count: %d kind: KIND_CPU }"
NEIGHBOURS = {"tiny": 200.0, "medium": 40.0}
"""Models and how often each is asked in a second."""
QUEUE = 64
# What a neighbour may wait for: a few turns of others on a core, and of one run on the device.
MOST_P99_MS = 100.0


def load(address: Address, model: str, connections: int, seconds: float, rate: float | None) -> Load:
    request = prepared(Form.BINARY, address, model, [Tensor("x", FP32, ROW.shape, ROW)])
    return Load(address, (request,), connections, seconds, warm_up_s=0.5, rate=rate, patience_s=30.0)


def beside(overload: Load, flooding: LoadProcess, asked: Load, asking: LoadProcess) -> tuple[Outcome, Outcome]:
    """What comes of both at once."""
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(flooding.outcome(overload)))
    thread.start()
    outcome = asking.outcome(asked)
    thread.join()
    return found[0], outcome


def p99_ms(outcomes: list[Outcome]) -> tuple[float, float]:
    latencies = array("d", (each for outcome in outcomes for each in outcome.latencies))
    return quantile(sorted(latencies), 0.5) * 1000, quantile(sorted(latencies), 0.99) * 1000


def not_answered(outcomes: list[Outcome]) -> int:
    return sum(sum(map(len, outcome.failed.values())) + outcome.unanswered for outcome in outcomes)


def compared(address: Address, name: str, rate: float, seconds: float, rounds: int) -> bool:
    """Print what ``name`` notices; whether that is little enough."""
    alone: list[Outcome] = []
    crowded: list[Outcome] = []
    floods: list[Outcome] = []
    with LoadProcess() as flooding, LoadProcess() as asking:
        capacity = flooding.outcome(load(address, "slow", 4, 3, None))
        flood = load(address, "slow", 256, seconds + 2, 10 * capacity.answered / capacity.seconds)
        asked = load(address, name, 16, seconds, rate)
        for _ in range(rounds):
            alone.append(asking.outcome(asked))
            flooded, outcome = beside(flood, flooding, asked, asking)
            floods.append(flooded)
            crowded.append(outcome)
    (p50, p99), (p50_beside, p99_beside) = p99_ms(alone), p99_ms(crowded)
    refused = sorted(each for flood in floods for each in flood.failed.get("503", array("d")))
    answered = sum(flood.answered / flood.seconds for flood in floods) / rounds
    print(
        f"  {name:7} {rate:4.0f}/s alone p50 {p50:.2f}, p99 {p99:.2f} ms; beside p50 {p50_beside:.2f}, p99 "
        f"{p99_beside:.2f} ms ({p99_beside / p99:.1f} times); not answered {not_answered(crowded)}; the other answered "
        f"{answered:.0f}/s of {flood.rate:.0f}, refusals p50 {quantile(refused, 0.5) * 1000:.2f}, p99 "
        f"{quantile(refused, 0.99) * 1000:.2f} ms",
        flush=True,
    )
    return not not_answered(crowded) and p99_beside < max(MOST_P99_MS, 2 * p99)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    fine = True
    for instances in (1, os.cpu_count() or 1):
        print(f"the overloaded model has {instances} instance(s) on {os.cpu_count()} cores")
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            onnx_models.save_version(root, "slow", onnx_models.slow(30_000), config=ONE % instances)
            onnx_models.save_version(root, "tiny", onnx_models.doubler())
            onnx_models.save_version(root, "medium", onnx_models.slow(2_500), config=ONE % 1)
            with started_server([str(root)], (f"--max-queue-size={QUEUE}", "--calibration-cache=none")) as server:
                for name, rate in NEIGHBOURS.items():
                    fine &= compared(server.http, name, rate, chosen.seconds, chosen.rounds)
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
