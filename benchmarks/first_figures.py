"""The first figures: time to the first prediction, resident memory, and latency of one client, beside their floor.

Run by `make bench`. Starts the installed server on free loopback ports with a tiny model (16×16 MatMul and Relu), sends
a bounded number of requests, and prints one table. Floors are measured in the same run: session.run by itself.
"""

import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

BARE_SERVER = """
import sys, uvicorn
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
uvicorn.run(app, port=int(sys.argv[1]), http="httptools", lifespan="off", access_log=False, log_level="error")
"""
REQUESTS = 3000
WARM_UP = 300
ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)


def tiny_model(path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [16, 16], np.eye(16, dtype=np.float32).reshape(-1))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@contextmanager
def served(model: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The server process with its HTTP and gRPC ports, read from the summary that it prints."""
    command = [sys.executable, "-m", "ortolan", "serve", str(model)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--drain-delay-secs", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ports: dict[str, int] = {}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"\s+(HTTP|gRPC|metrics)\s+127\.0\.0\.1:(\d+)", line):
                ports[found[1]] = int(found[2])
            if len(ports) == 3:
                break
        yield process, ports["HTTP"], ports["gRPC"]
    finally:
        process.terminate()
        process.wait(20)


def http_request(binary: bool) -> bytes:
    tensor: dict[str, object] = {"name": "x", "shape": [1, 16], "datatype": "FP32"}
    if binary:
        tensor["parameters"] = {"binary_data_size": ROW.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        body, extra = head + ROW.tobytes(), f"Inference-Header-Content-Length: {len(head)}\r\n"
    else:
        body, extra = json.dumps({"inputs": [tensor | {"data": ROW.reshape(-1).tolist()}]}).encode(), ""
    start = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return start.encode() + body


def is_complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(separator and length) and len(body) >= int(length[1])


def http_call(port: int, request: bytes) -> Callable[[], None]:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call() -> None:
        connection.sendall(request)
        answer = connection.recv(65536)
        # Head and body may come in two pieces.
        while not is_complete(answer):
            answer += connection.recv(65536)
        if b" 200 " not in answer[:16]:
            raise RuntimeError(answer[:300])

    return call


def grpc_call(port: int) -> Callable[[], None]:
    from tritonclient.grpc import InferenceServerClient, InferInput

    client = InferenceServerClient(f"127.0.0.1:{port}")
    given = InferInput("x", [1, 16], "FP32")
    given.set_data_from_numpy(ROW)
    return lambda: client.infer("tiny", [given])


def session_call(model: Path) -> Callable[[], None]:
    from ortolan.execution.session import ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": ROW})


def latencies_us(call: Callable[[], None]) -> list[float]:
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1000)
    return sorted(times)


def resident_mib(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def time_to_first_prediction(model: Path) -> tuple[float, float]:
    """Seconds from the process' start to its first answer, and MiB resident after it."""
    start = time.perf_counter()
    with served(model) as (process, http, _):
        http_call(http, http_request(binary=False))()
        return time.perf_counter() - start, resident_mib(process)


@contextmanager
def bare_uvicorn() -> Iterator[int]:
    """The floor of any server on uvicorn: one that answers every request with two bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", BARE_SERVER, str(port)])
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def show(name: str, times: list[float]) -> None:
    print(f"{name:28} p50 {statistics.median(times):8.1f} us   p99 {times[int(len(times) * 0.99)]:8.1f} us")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.onnx"
        tiny_model(model)
        starts = [time_to_first_prediction(model) for _ in range(5)]
        print(f"first prediction, of 5 starts  {min(s for s, _ in starts):.2f} to {max(s for s, _ in starts):.2f} s")
        print(f"resident after it              {max(m for _, m in starts):.0f} MiB")
        show("floor: session.run", latencies_us(session_call(model)))
        with bare_uvicorn() as port:
            show("floor: bare uvicorn", latencies_us(http_call(port, http_request(binary=True))))
        with served(model) as (process, http, grpc):
            show("REST, binary, one client", latencies_us(http_call(http, http_request(binary=True))))
            show("REST, JSON, one client", latencies_us(http_call(http, http_request(binary=False))))
            show("gRPC, tritonclient", latencies_us(grpc_call(grpc)))
            print(f"resident at the end            {resident_mib(process):.0f} MiB")


if __name__ == "__main__":
    main()
