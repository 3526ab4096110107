"""What batching costs a client that is alone, and how exactly a queue delay is kept.

Run by `python benchmarks/batching_delay.py`. Starts the installed server on free loopback ports with models that differ
in nothing but their batching, and one client over REST. First, the client's latency with batching on and off, one
request of each in turn, so that a busy machine troubles both alike. Then, with an explicit
`max_queue_delay_microseconds`, how late each batch began, which the server itself tells with every answer
(Server-Timing). Floors come from the same run: the model by itself, and how late a thread of this machine wakes that
does nothing but sleep.
"""

import argparse
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx_models
import onnxruntime as ort
from http_client import Client, inference
from server_process import running

IO = """
input [{{ name: "x" data_type: TYPE_FP32 dims: [ {0} ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ {0} ] }}]
max_batch_size: 32
"""
# A tiny model is run on the event loop, the larger one in an instance's thread.
WIDTHS = {"tiny": 16, "larger": 512}
WARM_UP = 200
DELAYS_US = (500, 5000)
MOST_LATE_US = 100


def on_and_off(client: Client, name: str, rounds: int) -> tuple[list[float], list[float]]:
    """Latencies in microseconds of one client, with batching and without it."""
    row = np.full((1, WIDTHS[name]), 0.5, np.float32)
    requests = [inference(f"{name}_{batching}", row) for batching in ("on", "off")]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + rounds):
        for request, found in zip(requests, times, strict=True):
            start = time.perf_counter_ns()
            client.call(request)
            if turn >= WARM_UP:
                found.append((time.perf_counter_ns() - start) / 1000)
    return times


def lateness_us(client: Client, delay_us: int, batches: int) -> list[float]:
    """How many microseconds after its delay each batch began, a request alone in each."""
    request = inference(f"delay_{delay_us}", np.full((1, 16), 0.5, np.float32))
    late = []
    for _ in range(20 + batches):
        head = client.call(request)
        late.append(float(re.search(rb"queue;dur=([\d.]+)", head)[1]) * 1000 - delay_us)
    return late[20:]


def session_floor(name: str, rounds: int) -> list[float]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx_models.perceptron(WIDTHS[name]).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    row = np.full((1, WIDTHS[name]), 0.5, np.float32)
    return durations_us(lambda: session.run(None, {"x": row}), rounds)


def sleep_floor(delay_us: int, rounds: int) -> list[float]:
    """How late a condition variable wakes a thread, in a process that does nothing else."""
    condition = threading.Condition()

    def sleep() -> None:
        with condition:
            condition.wait(delay_us / 1e6)

    return [duration - delay_us for duration in durations_us(sleep, rounds)]


def durations_us(call: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    return times


def show(name: str, times: Sequence[float]) -> None:
    ordered = sorted(times)
    p90, p99 = (ordered[int(len(ordered) * quantile)] for quantile in (0.9, 0.99))
    least, most = ordered[0], ordered[-1]
    print(
        f"{name:42} p50 {statistics.median(ordered):8.1f}  p90 {p90:8.1f}  p99 {p99:8.1f}  "
        f"least {least:8.1f}  most {most:9.1f}"
    )


def make_models(repository: Path) -> None:
    for name, width in WIDTHS.items():
        model = onnx_models.perceptron(width)
        onnx_models.save_version(repository, f"{name}_on", model, config=IO.format(width) + "dynamic_batching { }")
        onnx_models.save_version(repository, f"{name}_off", model, config=IO.format(width))
    for delay_us in DELAYS_US:
        config = IO.format(16) + f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}"
        onnx_models.save_version(repository, f"delay_{delay_us}", onnx_models.perceptron(16), config=config)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3000, help="requests of each kind")
    parser.add_argument("--batches", type=int, default=500, help="batches for each delay")
    asked = parser.parse_args()
    print("microseconds")
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder))
        with running(folder, "--calibration-cache=none") as server, Client(server.http_port) as client:
            for name in WIDTHS:
                show(f"floor: session.run, {name} model", session_floor(name, asked.rounds))
                on, off = on_and_off(client, name, asked.rounds)
                show(f"one client, {name} model, batching on", on)
                show(f"one client, {name} model, batching off", off)
                difference_ms = (statistics.median(on) - statistics.median(off)) / 1000
                print(f"  difference of the medians {difference_ms:+.4f} ms (wanted: within 0.1)")
            for delay_us in DELAYS_US:
                show(f"floor: late after {delay_us} us of sleep", sleep_floor(delay_us, asked.batches))
                late = lateness_us(client, delay_us, asked.batches)
                show(f"late after a delay of {delay_us} us", late)
                within = sum(each <= MOST_LATE_US for each in late) / len(late)
                print(f"  within {MOST_LATE_US} us: {within:.1%}; too early: {sum(each < 0 for each in late)}")


if __name__ == "__main__":
    main()
