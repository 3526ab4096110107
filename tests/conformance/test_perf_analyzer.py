"""Triton's own load generator against the server: in each of its modes every request is answered, and rightly.

The model gives back what it gets, and the tool writes down what it sent and what came, so that answers can be compared.
Nothing is said about speed.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from callers import get
from onnx import TensorProto
from perf_analyzer import PerfAnalyzer
from server_process import ServerProcess, running

REQUESTS = 40
COUNTED = [f"--request-count={REQUESTS}"]
JSON = ["--input-tensor-format=json", "--output-tensor-format=json"]
HTTP_MODES = {
    "sync": ["--sync"],
    "async": ["--async"],
    "sync by 4": ["--sync", "--concurrency-range=4"],
    "async by 4": ["--async", "--concurrency-range=4"],
    "JSON": JSON,
    "JSON in, binary out": JSON[:1],
    "binary in, JSON out": JSON[1:],
    "JSON by 4": ["--async", "--concurrency-range=4", *JSON],
    "a version": ["-x", "1"],
    "a rate": [f"--request-rate-range={REQUESTS}"],
}
GRPC_MODES = {
    "sync": ["--sync"],
    "async": ["--async"],
    "sync by 4": ["--sync", "--concurrency-range=4"],
    "async by 4": ["--async", "--concurrency-range=4"],
    "streaming": ["--async", "--streaming"],
    "streaming by 4": ["--async", "--streaming", "--concurrency-range=4"],
    "gzip": ["--grpc-compression-algorithm=gzip"],
    "deflate": ["--async", "--grpc-compression-algorithm=deflate"],
    "streaming, gzip": ["--async", "--streaming", "--grpc-compression-algorithm=gzip"],
    "a parameter": ["--request-parameter=mine:1:int"],
}
NUMBERS, TEXTS = ["-m", "numbers"], ["-m", "texts", "--shape=x:3", "--string-length=9"]
SHARED_MEMORY_MODES = {
    "HTTP": ["http", *NUMBERS],
    "HTTP by 4": ["http", *NUMBERS, "--async", "--concurrency-range=4"],
    "HTTP, texts": ["http", *TEXTS],
    "gRPC": ["grpc", *NUMBERS],
    "gRPC by 4": ["grpc", *NUMBERS, "--async", "--concurrency-range=4"],
    "gRPC, texts": ["grpc", *TEXTS],
    "streaming": ["grpc", *NUMBERS, "--async", "--streaming"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    onnx_models.save_version(repository, "numbers", onnx_models.identity())
    onnx_models.save_version(repository, "texts", onnx_models.identity(TensorProto.STRING, ("batch", "n")))
    traces = f"--trace-config=triton,file={repository.parent / 'traces.json'}"
    with running(repository, "--allow-client-shm", traces) as server:
        yield server


def http(server: ServerProcess) -> list[str]:
    return ["-i", "http", "-u", server.http]


def grpc(server: ServerProcess) -> list[str]:
    return ["-i", "grpc", "-u", server.grpc]


def succeeded(tool: PerfAnalyzer, *arguments: str) -> str:
    """What the tool printed, which tells of requests that were answered and of nothing that went wrong."""
    done = tool.run(*arguments)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search("error|failed", done.stdout, re.IGNORECASE), done.stdout
    throughput = re.search(r"throughput: ([\d.]+) infer/sec", done.stdout)
    assert throughput, done.stdout
    assert float(throughput[1]) > 0
    return done.stdout


def exchanged(tool: PerfAnalyzer, directory: Path, *arguments: str) -> list[tuple[Any, Any]]:
    """What was sent and what came back in each request."""
    record = directory / "record.json"
    succeeded(tool, f"--profile-export-file={record}", *COUNTED, *arguments)
    requests = json.loads(record.read_text())["experiments"][0]["requests"]
    assert len(requests) >= REQUESTS
    return [(request["request_inputs"]["x"], request["response_outputs"][0]["y"]) for request in requests]


@pytest.mark.parametrize("mode", HTTP_MODES)
def test_every_answer_over_http_is_what_was_sent(
    tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path, mode: str
) -> None:
    exchanges = exchanged(tool, tmp_path, *http(server), *NUMBERS, *HTTP_MODES[mode])
    assert not [sent for sent, came in exchanges if sent != came]


@pytest.mark.parametrize("mode", GRPC_MODES)
def test_every_answer_over_grpc_is_what_was_sent(
    tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path, mode: str
) -> None:
    exchanges = exchanged(tool, tmp_path, *grpc(server), *NUMBERS, *GRPC_MODES[mode])
    assert not [sent for sent, came in exchanges if sent != came]


def test_a_batch_of_rows_comes_back_whole(tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path) -> None:
    exchanges = exchanged(tool, tmp_path, *http(server), *NUMBERS, "-b", "3", "--async", "--concurrency-range=4")
    # The tool writes down one row of those that it sent, which are all the same.
    assert not [sent for sent, came in exchanges if 3 * sent != came]


@pytest.mark.parametrize("address", [http, grpc])
def test_texts_come_back(
    tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path, address: Callable[[ServerProcess], list[str]]
) -> None:
    # Short ones, because the tool writes them down with their lengths, as one text that has to be UTF-8.
    exchanges = exchanged(tool, tmp_path, *address(server), *TEXTS)
    assert not [sent for sent, came in exchanges if sent != came]


def test_a_text_comes_back_as_json(tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path) -> None:
    # One element only: of more the tool sends the first.
    exchanges = exchanged(tool, tmp_path, *http(server), "-m", "texts", "--shape=x:1", "--string-length=9", *JSON)
    assert not [sent for sent, came in exchanges if sent != came]


@pytest.mark.parametrize("address", [http, grpc])
def test_the_statistics_of_its_windows_tell_of_its_requests(
    tool: PerfAnalyzer, server: ServerProcess, address: Callable[[ServerProcess], list[str]]
) -> None:
    windows = ["--measurement-interval=200", "--max-trials=3", "--stability-percentage=999"]
    told = succeeded(tool, *address(server), *NUMBERS, *windows)
    answered = re.search(r"Successful request count: (\d+)", told)
    assert answered, told
    assert int(answered[1]) > 0


def test_it_reads_the_metrics(tool: PerfAnalyzer, server: ServerProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    metrics = ["--verbose-csv", "--collect-metrics", f"--metrics-url={server.metrics}/metrics"]
    succeeded(tool, *http(server), *NUMBERS, *COUNTED, *metrics, "-f", str(report))
    with report.open() as file:
        assert [float(row["Inferences/Second"]) > 0 for row in csv.DictReader(file)] == [True]


@pytest.mark.parametrize("address", [http, grpc])
def test_it_sets_tracing(
    tool: PerfAnalyzer, server: ServerProcess, address: Callable[[ServerProcess], list[str]]
) -> None:
    tracing = ["--trace-level=TIMESTAMPS", "--trace-rate=10", "--trace-count=1", "--log-frequency=1"]
    succeeded(tool, *address(server), *NUMBERS, *COUNTED, *tracing)


@pytest.mark.parametrize("mode", SHARED_MEMORY_MODES)
def test_tensors_go_through_shared_memory(tool: PerfAnalyzer, server: ServerProcess, mode: str) -> None:
    protocol, *options = SHARED_MEMORY_MODES[mode]
    address = http(server) if protocol == "http" else grpc(server)
    succeeded(tool, *address, *COUNTED, "--shared-memory=system", *options)
    assert not get(server, "/v2/systemsharedmemory/status")


def test_a_model_that_is_not_there_is_named(tool: PerfAnalyzer, server: ServerProcess) -> None:
    for address in (http(server), grpc(server)):
        done = tool.run(*address, "-m", "absent", *COUNTED)
        assert done.returncode != 0
        assert "'absent' is not found" in done.stdout
