"""Triton's own load generator against models of sequences, and against an ensemble: in each mode nothing fails."""

import re
from collections.abc import Iterator

import ensembles
import onnx_models
import onnx_sequences
import pytest
from callers import statistics
from onnx_sequences import CONTROLS, SUM, block
from perf_analyzer import PerfAnalyzer
from server_process import ServerProcess, running

REQUESTS = 60
# A busy machine must not make the tool's sequences idle.
LONG = "max_sequence_idle_microseconds: 30000000"
MODES = {
    "HTTP": ["http"],
    "HTTP by 6": ["http", "--async", "--concurrency-range=6"],
    "gRPC by 6": ["grpc", "--async", "--concurrency-range=6"],
    "streaming by 6": ["grpc", "--async", "--streaming", "--concurrency-range=6"],
    "a rate": ["http", "--request-rate-range=50", "--num-of-sequences=6"],
    "a rate, streaming": ["grpc", "--async", "--streaming", "--request-rate-range=50", "--num-of-sequences=3"],
    "one after another": ["grpc", "--async", "--request-rate-range=50", "--num-of-sequences=3", "--serial-sequences"],
    "ids of a range": ["http", "--concurrency-range=3", "--sequence-id-range=5:9"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    oldest = f"{LONG} oldest {{ max_candidate_sequences: 4 }} {SUM}"
    onnx_models.save_version(root, "direct", onnx_sequences.accumulator(), config=block(f"{LONG} {SUM}", 4, 2))
    onnx_models.save_version(root, "oldest", onnx_sequences.accumulator(), config=block(oldest, 4, 2))
    onnx_models.save_version(root, "controls", onnx_sequences.controls(), config=block(f"{LONG} {CONTROLS}", 2))
    text = ensembles.config(ensembles.step("direct", [("x", "in")], [("y", "out")]), max_batch_size=1)
    ensembles.save(root, "ensemble", text.replace("dims: 4", "dims: 1"))
    with running(root) as server:
        yield server


@pytest.mark.parametrize("model", ["direct", "oldest", "controls", "ensemble"])
@pytest.mark.parametrize("mode", MODES)
def test_no_request_of_a_sequence_fails(tool: PerfAnalyzer, server: ServerProcess, model: str, mode: str) -> None:
    protocol, *options = MODES[mode]
    before = statistics(server, model)["inference_stats"]["success"]["count"]
    address = ["-i", protocol, "-u", getattr(server, protocol)]
    done = tool.run("-m", model, *address, *options, f"--request-count={REQUESTS}", "--sequence-length=5")
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search("error|failed", done.stdout, re.IGNORECASE), done.stdout
    found = statistics(server, model)["inference_stats"]
    assert found["success"]["count"] - before >= REQUESTS
    assert found["fail"]["count"] == 0
