"""Compiling: what is written gives the same bits, or is not kept, and a reason is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.errors import InvalidArgument
from ortolan.execution.compiled_check import answers, trials
from ortolan.execution.compiled_entry import CompiledModel, Refusal, read_entry
from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_making import make
from ortolan.execution.compiled_session import open_compiled
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_mending import open_session
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository import config_completion, config_file
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.model_config import InstanceKind

KEY = "the key"
PLACE = Placement("test", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def job_of(
    proto: onnx.ModelProto, folder: Path, config: str = "", settings: SessionSettings | None = None
) -> CompileJob:
    """The work of compiling ``proto``, with its parts in ``folder``."""
    model = onnx_models.save(proto, folder / "original" / "model.onnx")
    (folder / "entry").mkdir()
    given = config_completion.default_config("model") if not config else config_file.parse_text(config, "model")
    placed = config_completion.complete_instance_groups(given, CompletionDefaults())
    return CompileJob(
        model, folder / "entry", KEY, placed, folder, settings or SessionSettings(), CompletionDefaults(8)
    )


def random_numbers() -> onnx.ModelProto:
    """y = x + noise."""
    return onnx_models.model(
        [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
    )


def picky() -> onnx.ModelProto:
    """y = x in two columns of one, which no row with an odd number of columns has."""
    return onnx_models.model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ["rows", "columns"])],
        [("y", TensorProto.FLOAT, [2, 1])],
        {"shape": np.array([2, 1])},
    )


def texts() -> onnx.ModelProto:
    return onnx_models.identity(TensorProto.STRING)


@pytest.mark.parametrize(
    "build",
    [
        onnx_models.perceptron,
        onnx_models.convolution,
        onnx_models.with_external_data,
        onnx_models.dynamically_quantised,
        onnx_models.gather,
        onnx_models.sequence,
        lambda: onnx_models.slow(10),
        lambda: onnx_models.zip_map([1, 2]),
        lambda: onnx_models.zip_map(["a", "b"]),
        lambda: onnx_models.with_default(2.0),
        texts,
    ],
)
def test_a_compiled_model_gives_the_same_bits(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    job = job_of(build(), tmp_path)
    make(job)
    entry = read_entry(job.folder, KEY)
    assert isinstance(entry, CompiledModel)
    original, _ = open_session(job.model, "model", job.settings, PLACE, job.model.parent)
    compiled = open_compiled(entry, "model", job.settings, PLACE)
    completed = config_completion.complete(job.config, original.signature, job.defaults)
    inputs = trials(completed, tmp_path)
    assert compiled.signature == original.signature
    assert answers(compiled, inputs) == answers(original, inputs)


def test_external_data_is_read_where_the_model_is(tmp_path: Path) -> None:
    job = job_of(onnx_models.with_external_data(5000), tmp_path)
    onnx_models.save_externally(onnx_models.with_external_data(5000), job.model)
    make(job)
    assert isinstance(read_entry(job.folder, KEY), CompiledModel)
    assert (job.folder / "weights.bin").exists()


def test_a_mended_model_says_so_again(tmp_path: Path) -> None:
    job = job_of(onnx_models.with_external_data(ir_version=99), tmp_path)
    make(job)
    entry = read_entry(job.folder, KEY)
    assert isinstance(entry, CompiledModel)
    assert "IR version 99 was lowered" in entry.mendings[0]


def test_a_model_of_chance_is_not_kept(tmp_path: Path) -> None:
    job = job_of(random_numbers(), tmp_path)
    make(job)
    entry = read_entry(job.folder, KEY)
    assert isinstance(entry, Refusal)
    assert "differ from run to run" in entry.reason


def test_a_model_that_takes_no_made_up_input_is_tried_with_its_samples(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    job = job_of(picky(), tmp_path / "without")
    make(job)
    refusal = read_entry(job.folder, KEY)
    assert isinstance(refusal, Refusal)
    assert "model_warmup" in refusal.reason
    (tmp_path / "with").mkdir()
    samples = """model_warmup { name: "two" inputs { key: "x" value {
        data_type: TYPE_FP32 dims: [ 1, 2 ] random_data: true } } }"""
    job = job_of(picky(), tmp_path / "with", samples)
    make(job)
    assert isinstance(read_entry(job.folder, KEY), CompiledModel)


def test_a_model_that_cannot_be_loaded_is_neither_kept_nor_refused(tmp_path: Path) -> None:
    job = job_of(onnx_models.doubler(), tmp_path)
    job.model.write_bytes(b"no model")
    with pytest.raises(InvalidArgument):
        make(job)
    assert not list(job.folder.iterdir())


def test_a_job_is_the_same_as_text(tmp_path: Path) -> None:
    settings = SessionSettings(2, graph_level=1, config_entries={"session.x": "1"}, max_execution_s=1.5)
    config = """max_batch_size: 8 parameters { key: "golden_rtol" value { string_value: "0.1" } }
        model_warmup { name: "two" batch_size: 2 inputs { key: "x" value {
        data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }"""
    job = job_of(onnx_models.doubler(), tmp_path, config, settings)
    again = CompileJob.from_line(job.to_line())
    assert (again.model, again.folder, again.directory) == (job.model, job.folder, job.directory)
    assert (again.settings, again.defaults, again.key_text) == (job.settings, job.defaults, job.key_text)
    assert (again.config.warmup, again.config.parameters) == (job.config.warmup, job.config.parameters)
    assert again.config.max_batch_size == 8
