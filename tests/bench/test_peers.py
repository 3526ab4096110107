"""The peers of the grid: Triton's configurations, and, where it has been fetched already, that it answers right."""

import os
import subprocess
import sys
from pathlib import Path

import grid_models
import onnx
import pytest
from triton_peer.model_repository import VARIANTS, Tuning, config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FETCHED = BENCHMARKS.parent / "build" / "triton_peer"


@pytest.mark.parametrize(
    ("model", "tuning", "line"),
    [
        ("mlp", Tuning(True, 1), 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]'),
        ("convnet", Tuning(True, 1), 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] } ]'),
        ("transformer", Tuning(True, 1), 'input [ { name: "ids" data_type: TYPE_INT64 dims: [ 128 ] } ]'),
        ("tiny", Tuning(True, 1), "dynamic_batching { }"),
        ("tiny", Tuning(False, 2), "instance_group [ { count: 2 kind: KIND_CPU } ]"),
        ("tiny", Tuning(False, 1, 2), 'parameters { key: "intra_op_thread_count" value { string_value: "2" } }'),
    ],
)
def test_a_configuration_says_what_triton_would_have_to_guess(
    tmp_path: Path, model: str, tuning: Tuning, line: str
) -> None:
    lines = config(model, "onnxruntime", onnx.load(grid_models.write(tmp_path, model)), tuning).splitlines()
    assert line in lines
    assert ("dynamic_batching { }" in lines) == tuning.batching


def test_every_variant_tunes_every_model_of_the_grid() -> None:
    assert {tuple(variant) for variant in VARIANTS.values()} == {grid_models.MODELS}


@pytest.mark.skipif(not FETCHED.exists(), reason="Triton has not been fetched; make bench-triton does it")
def test_triton_answers_what_onnx_runtime_answers(tmp_path: Path) -> None:
    run = [sys.executable, BENCHMARKS / "triton_peer" / "run.py", tmp_path, "--build", FETCHED, "--variant=batching-2"]
    serving = subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    try:
        said = serving.stdout.readline().split()
        assert said[0] == "--peer"
        check = [sys.executable, BENCHMARKS / "peer_check.py", said[1].partition("=")[2]]
        few = ["--models=tiny,mlp", "--requests=32", "--clients=8"]
        found = subprocess.run([*check, *few], capture_output=True, text=True, timeout=60)
        assert found.returncode == 0, found.stdout + found.stderr
    finally:
        serving.terminate()
        assert serving.wait(30) == 0
        serving.stdout.close()
