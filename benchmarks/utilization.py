"""Whether ``ortolan_utilization`` is the load: two models at 20 to 100 % of what they can do, and what is told of it.

Run by `make utilization` (`--seconds` for each load, 13 as it is). Starts the installed server on free loopback ports
with a model that takes as long for a row as for a batch of eight, then with one of a few microseconds that fills the
event loop before anything else; measures how many requests a second each answers at most, then sends shares of that,
open loop, and reads the metrics at the end of each. Beside them stand the fraction of the time in which the model's
instances were busy, which says little of a model that batches, and the processor time of the whole server.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx
import onnx_models

from ortolan.bench.load import Address, Form, Load, Outcome
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.process_usage import usage
from ortolan.bench.started_server import StartedServer, started_server
from ortolan.execution.devices import usable_cores
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5)
ROW = np.array([[1, 2, 3, 4]], np.float32)
STAGES = ("compute_input", "compute_infer", "compute_output")
FLAGS = ("--allow-metrics=true", "--metrics-port=0", "--metrics-interval-ms=500", "--max-queue-size=256")


@dataclass(frozen=True)
class Case:
    """A model, and how many connections and requests on each it takes to fill it."""

    name: str
    model: onnx.ModelProto
    config: str
    form: Form
    connections: int
    streams: int = 1


CASES = (
    Case(
        "batches",
        onnx_models.slow(50_000),
        "max_batch_size: 8\ndynamic_batching { }",
        Form.JSON,
        connections=64,
    ),
    Case("tiny", onnx_models.doubler(), "max_batch_size: 8\ndynamic_batching { }", Form.BINARY, connections=16),
)


def load(case: Case, address: Address, seconds: float, rate: float | None = None) -> Load:
    request = prepared(case.form, address, case.name, [Tensor("x", FP32, ROW.shape, ROW)])
    connections = case.connections if rate is None else 256
    return Load(address, (request,), connections, seconds, rate=rate, patience_s=20.0)


def metrics(address: Address) -> dict[str, float]:
    """Every sample by its name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def run_s(address: Address, model: str) -> float:
    """What the model's runs took in all."""
    with urllib.request.urlopen(f"http://{address}/v2/models/{model}/stats", timeout=10) as response:
        (found,) = json.load(response)["model_stats"]
    return sum(batch[stage]["ns"] for batch in found["batch_stats"] for stage in STAGES) / 1e9


@dataclass(frozen=True)
class Moment:
    """What is told at one moment, and what the server has used until then."""

    at_s: float
    metrics: dict[str, float]
    run_s: float
    cpu_s: float


def moment(case: Case, server: StartedServer) -> Moment:
    return Moment(
        time.monotonic(), metrics(server.http), run_s(server.http, case.name), usage([server.process_id]).cpu_s
    )


def under_load(case: Case, server: StartedServer, process: LoadProcess, load: Load) -> tuple[Outcome, Moment, Moment]:
    """What came of it, and two moments: a second after it began, and one before it ends."""
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(process.outcome, load)
        time.sleep(1)
        first = moment(case, server)
        time.sleep(load.seconds - 2)
        last = moment(case, server)
        return outcome.result(), first, last


def measured(case: Case, seconds: float, server: StartedServer, process: LoadProcess) -> None:
    cores = usable_cores()
    process.outcome(load(case, server.http, 3))
    print(f"\n{case.name}")
    print("  load   at most/s   offered/s   answered/s   refused   utilization   of the model   instances busy   CPU")
    for share in SHARES:
        # Anew each time: on a machine that does something else it is another one.
        best = process.outcome(load(case, server.http, 3))
        capacity = best.answered / best.seconds
        outcome, first, last = under_load(case, server, process, load(case, server.http, seconds, capacity * share))
        wall_s = (last.at_s - first.at_s) * cores
        used, busy, after = (last.cpu_s - first.cpu_s) / wall_s, (last.run_s - first.run_s) / wall_s, last.metrics
        of_model = after[f'ortolan_model_utilization{{model="{case.name}",version="1"}}']
        offered, answered = capacity * share, outcome.answered / outcome.seconds
        told = f"{after['ortolan_utilization']:13.2f} {of_model:14.2f} {busy:16.2f} {used:5.2f}"
        print(
            f"  {share:4.0%} {capacity:11.0f} {offered:11.0f} {answered:12.0f} {refused(outcome):9d} {told}", flush=True
        )


def refused(outcome: Outcome) -> int:
    return sum(map(len, outcome.failed.values()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=13)
    parser.add_argument("--case", choices=[case.name for case in CASES])
    given = parser.parse_args()
    print(f"{usable_cores()} cores, which the load generator shares")
    for case in CASES:
        if given.case not in (None, case.name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = onnx_models.save_version(Path(folder), case.name, case.model, config=case.config)
            with started_server([str(model)], FLAGS) as server, LoadProcess() as process:
                measured(case, given.seconds, server, process)


if __name__ == "__main__":
    main()
