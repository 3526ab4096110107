"""Our load generator beside wrk, h2load and perf_analyzer on the same servers: it must not be the bottleneck.

Run by `make bench-generator`. Each tool that is installed takes turns with ours on a bare server, where a slow
generator would show most, and on our server with the tiny model. wrk and h2load are looked for on the PATH,
perf_analyzer where `make perf-analyzer` puts it; that one speaks to our server only, because it asks for metadata.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import grid_models
import perf_analyzer
from bare_server import bare_server

from ortolan.bench.figures import figures
from ortolan.bench.inputs import random_inputs
from ortolan.bench.load import Address, Form, Load, PreparedRequest
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.measured_server import Addresses, MeasuredServer
from ortolan.bench.prepared_requests import INFER_METHOD
from ortolan.bench.report import number
from ortolan.bench.served_model import served_model
from ortolan.bench.started_server import started_server

MODEL = "tiny"
SCRIPT = """
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
{headers}
"""

Rate = Callable[[Address, PreparedRequest, int, float], float]
"""Requests per second that a tool reaches with so many clients in so many seconds."""


def wrk(address: Address, request: PreparedRequest, clients: int, seconds: float) -> float:
    start, *lines = request.head.decode().strip().split("\r\n")
    own = [line.split(": ", 1) for line in lines if not line.startswith(("Host", "Content-Length"))]
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in own)
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "script.lua"
        body.write_bytes(request.body)
        script.write_text(SCRIPT.format(body=body, headers=headers))
        threads = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"]
        return said(r"Requests/sec:\s+([\d.]+)", ["wrk", *threads, "-s", script, f"http://{address}{start.split()[1]}"])


def h2load(address: Address, request: PreparedRequest, clients: int, seconds: float) -> float:
    with tempfile.NamedTemporaryFile() as body:
        body.write(request.body)
        body.flush()
        amounts = [f"-c{clients}", "-m1", "-t1", f"-D{max(1, round(seconds))}", f"-d{body.name}"]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        return said(
            r"finished in .*?, ([\d.]+) req/s", ["h2load", *amounts, *headers, f"http://{address}{INFER_METHOD}"]
        )


def said(pattern: str, command: Sequence[str | Path]) -> float:
    return found_in(subprocess.run(command, capture_output=True, text=True, timeout=120).stdout, pattern)


def found_in(output: str, pattern: str) -> float:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(f"there is no {pattern} in what the tool said:\n{output}")
    return float(found[1])


def analyzer(tool: perf_analyzer.PerfAnalyzer) -> Rate:
    def rate(address: Address, request: PreparedRequest, clients: int, seconds: float) -> float:
        where = ["-m", MODEL, "-u", str(address), "-i", "grpc" if request.form is Form.GRPC else "http"]
        window = ["--measurement-interval", str(round(seconds * 1000)), "--max-trials", "3", "-s", "50"]
        output = tool.run(*where, *window, "--concurrency-range", str(clients), timeout_s=120).stdout
        return found_in(output, r"Throughput: ([\d.]+) infer/sec")

    return rate


def beside(
    name: str,
    tool: Rate,
    address: Address,
    requests: Sequence[PreparedRequest],
    process: LoadProcess,
    given: argparse.Namespace,
) -> None:
    """Print what the tool and our generator reach in turns, for each number of clients."""
    for clients in given.clients:
        theirs, ours = [], []
        for _ in range(given.rounds):
            theirs.append(tool(address, requests[0], clients, given.seconds))
            ours.append(figures(process.outcome(Load(address, tuple(requests), clients, given.seconds))))
        their, our = statistics.median(theirs), statistics.median(each.requests_per_s for each in ours)
        cores = statistics.median(each.generator_cores for each in ours)
        cost = cores / our * 1e6 if our else 0
        print(
            f"{name:28} {clients:3} clients   {number(their):>8}/s   ours {number(our):>8}/s   "
            f"ours/theirs {our / their:5.2f}   ours used {cores:.2f} cores, {cost:.1f} us a request",
            flush=True,
        )


def check(given: argparse.Namespace, server: MeasuredServer, process: LoadProcess) -> None:
    for form, tool, name in ((Form.BINARY, wrk, "wrk"), (Form.GRPC, h2load, "h2load")):
        if not shutil.which(name):
            print(f"{name} is not installed")
            continue
        requests = server.requests(form)
        with bare_server(form, requests[0].answer or b"") as bare:
            unchecked = [replace(each, answer=None) for each in requests]
            beside(f"{name}, bare server", tool, bare.http, unchecked, process, given)
        beside(f"{name}, our server", tool, server.addresses.of(form), requests, process, given)
    tool = perf_analyzer.found()
    if isinstance(tool, str):
        print(tool)
        return
    for form in (Form.BINARY, Form.GRPC):
        address = server.addresses.of(form)
        beside(f"perf_analyzer, {form.title}", analyzer(tool), address, server.requests(form), process, given)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    given = parser.parse_args()
    given.clients = [int(each) for each in given.clients.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        model = grid_models.write(Path(folder), MODEL)
        with started_server([str(model.parents[1])]) as started, LoadProcess() as process:
            inputs = random_inputs(served_model(started.http, MODEL), 1, {}, 1)
            check(given, MeasuredServer(Addresses("ours", started.http, started.grpc), MODEL, inputs), process)


if __name__ == "__main__":
    main()
