"""Overload: ten times as many requests as a model can answer, for a minute. Nothing may grow, nothing may hang.

Run by `make overload` (`--seconds` for another length). Starts the installed server on free loopback ports with a model
that takes about 25 ms and one instance, measures its capacity, then sends ten times that rate, open loop, and reports
answers, refusals, how fast the refusals came, requests without an answer, and resident memory before and after.
"""

import argparse
import math
import sys
import tempfile
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx_models

from ortolan.bench.figures import quantile
from ortolan.bench.load import Address, Form, Load, Outcome
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.process_usage import usage
from ortolan.bench.started_server import started_server
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

ROW = np.array([[1, 2, 3, 4]], np.float32)
CONFIG = """
max_batch_size: 1
instance_group { count: 1 kind: KIND_CPU }
"""
CONNECTIONS = 512
QUEUE = 64


def load(address: Address, connections: int, seconds: float, rate: float | None = None) -> Load:
    request = prepared(Form.JSON, address, "slow", [Tensor("x", FP32, ROW.shape, ROW)])
    return Load(address, (request,), connections, seconds, warm_up_s=0.0, rate=rate, patience_s=30.0)


def resident_mib(process: int) -> float:
    return usage([process]).resident_bytes / 2**20


def milliseconds(durations: array, share: float) -> float:
    return quantile(sorted(durations), share) * 1000


def report(outcome: Outcome) -> None:
    refused = outcome.failed.get("503", array("d"))
    others = {reason: len(found) for reason, found in outcome.failed.items() if reason != "503"}
    due = len(outcome.latencies) + sum(map(len, outcome.failed.values())) + outcome.unanswered
    print(f"due {due}, answered {len(outcome.latencies)}, refused with 503 {len(refused)}")
    print(f"other answers {others or 0}, without any answer {outcome.unanswered}")
    rate, half = outcome.answered / outcome.seconds, milliseconds(outcome.latencies, 0.5)
    print(f"answered at {rate:.0f}/s, p50 {half:.1f} ms after they were due")
    if not math.isnan(milliseconds(refused, 0.5)):
        print(f"refusals p50 {milliseconds(refused, 0.5):.2f} ms, p99 {milliseconds(refused, 0.99):.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        model = onnx_models.save_version(Path(folder), "slow", onnx_models.slow(30_000), config=CONFIG)
        flags = (f"--max-queue-size={QUEUE}", "--calibration-cache=none")
        with started_server([str(model)], flags) as server, LoadProcess() as process:
            capacity = process.outcome(load(server.http, 4, 3))
            rate = capacity.answered / capacity.seconds
            before = resident_mib(server.process_id)
            outcome = process.outcome(load(server.http, CONNECTIONS, seconds, 10 * rate))
            after = resident_mib(server.process_id)
    print(f"capacity {rate:.0f}/s; offered {10 * rate:.0f}/s for {seconds:.0f} s on {CONNECTIONS} connections")
    report(outcome)
    print(f"resident {before:.0f} MiB before, {after:.0f} MiB after")


if __name__ == "__main__":
    main()
