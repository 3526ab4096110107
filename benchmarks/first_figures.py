"""The first figures: time to the first prediction, resident memory, and latency of one client, beside their floor.

Run by `make bench`. Starts the installed server on free loopback ports with a tiny model (16×16 MatMul and Relu), sends
a bounded number of requests, and prints one table. Floors are measured in the same run: session.run by itself.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grid_models
import numpy as np
from bare_server import bare_server
from http_client import Client

from ortolan.bench.load import Address, Form, PreparedRequest
from ortolan.bench.prepared_requests import prepared
from ortolan.bench.process_usage import usage
from ortolan.bench.started_server import started_server
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

REQUESTS = 3000
WARM_UP = 300
ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)


def request(form: Form, address: Address) -> PreparedRequest:
    return prepared(form, address, "tiny", [Tensor("x", FP32, ROW.shape, ROW)])


def http_call(address: Address, form: Form) -> Callable[[], object]:
    """One request after the other on one connection, which lives as long as this process."""
    client, sent = Client(address.port), request(form, address)
    return lambda: client.call(sent.head + sent.body)


def grpc_call(address: Address) -> Callable[[], object]:
    from tritonclient.grpc import InferenceServerClient, InferInput

    client = InferenceServerClient(str(address))
    given = InferInput("x", [1, 16], "FP32")
    given.set_data_from_numpy(ROW)
    return lambda: client.infer("tiny", [given])


def session_call(model: Path) -> Callable[[], object]:
    from ortolan.execution.session import ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": ROW})


def latencies_us(call: Callable[[], object]) -> list[float]:
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    return sorted(times)


def resident_mib(process: int) -> float:
    return usage([process]).resident_bytes / 2**20


def time_to_first_prediction(model: Path) -> tuple[float, float]:
    """Seconds from the process' start to its first answer, and MiB resident after it."""
    start = time.perf_counter()
    with started_server([str(model)]) as server:
        http_call(server.http, Form.JSON)()
        return time.perf_counter() - start, resident_mib(server.process_id)


def show(name: str, times: list[float]) -> None:
    print(f"{name:28} p50 {statistics.median(times):8.1f} us   p99 {times[int(len(times) * 0.99)]:8.1f} us")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = grid_models.write(Path(folder), "tiny")
        model = file.parents[1]
        starts = [time_to_first_prediction(model) for _ in range(5)]
        print(f"first prediction, of 5 starts  {min(s for s, _ in starts):.2f} to {max(s for s, _ in starts):.2f} s")
        print(f"resident after it              {max(m for _, m in starts):.0f} MiB")
        show("floor: session.run", latencies_us(session_call(file)))
        with bare_server(Form.BINARY, b"ok") as bare:
            show("floor: bare uvicorn", latencies_us(http_call(bare.http, Form.BINARY)))
        with started_server([str(model)]) as server:
            show("REST, binary, one client", latencies_us(http_call(server.http, Form.BINARY)))
            show("REST, JSON, one client", latencies_us(http_call(server.http, Form.JSON)))
            show("gRPC, tritonclient", latencies_us(grpc_call(server.grpc)))
            print(f"resident at the end            {resident_mib(server.process_id):.0f} MiB")


if __name__ == "__main__":
    main()
