"""The grid's models as a repository for Triton, each with the configuration that a person would tune for two cores."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grid_models
import onnx
from onnx import TensorProto, ValueInfoProto

MOST_ROWS = 32
_TYPES = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.INT64: "TYPE_INT64"}


@dataclass(frozen=True)
class Tuning:
    batching: bool
    instances: int
    threads: int = 1
    """Of ONNX Runtime within one run (intra_op)."""


# Where starting a run costs more than its rows, one session that batches does most; where the arithmetic fills a core,
# two sessions fill two, and batches only make requests wait for each other.
_LIGHT, _HEAVY = Tuning(batching=True, instances=1), Tuning(batching=False, instances=2)

VARIANTS: Mapping[str, Mapping[str, Tuning]] = {
    "tuned": {"tiny": _LIGHT, "mlp": _LIGHT, "convnet": _HEAVY, "transformer": _HEAVY},
    "batching-1": dict.fromkeys(grid_models.MODELS, Tuning(batching=True, instances=1)),
    "batching-2": dict.fromkeys(grid_models.MODELS, Tuning(batching=True, instances=2)),
    "plain-1": dict.fromkeys(grid_models.MODELS, Tuning(batching=False, instances=1)),
    "plain-2": dict.fromkeys(grid_models.MODELS, Tuning(batching=False, instances=2)),
}


def write(directory: Path, variant: str, backend: str) -> Path:
    """Put the models and their configurations into ``directory/variant``; that repository."""
    repository = directory / variant
    for name, tuning in VARIANTS[variant].items():
        file = grid_models.write(repository, name)
        (repository / name / "config.pbtxt").write_text(config(name, backend, onnx.load(file), tuning))
    return repository


def config(name: str, backend: str, model: onnx.ModelProto, tuning: Tuning) -> str:
    """A config.pbtxt that says everything, so that Triton has nothing to complete."""
    lines = [f'name: "{name}"', f'backend: "{backend}"', f"max_batch_size: {MOST_ROWS}"]
    lines += [f"input [ {_tensor(each)} ]" for each in model.graph.input]
    lines += [f"output [ {_tensor(each)} ]" for each in model.graph.output]
    lines += [f"instance_group [ {{ count: {tuning.instances} kind: KIND_CPU }} ]"]
    lines += [f'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{tuning.threads}" }} }}']
    lines += ["dynamic_batching { }"] if tuning.batching else []
    return "\n".join(lines) + "\n"


def _tensor(tensor: ValueInfoProto) -> str:
    kind = tensor.type.tensor_type
    dims = ", ".join(str(each.dim_value or -1) for each in kind.shape.dim[1:])
    return f'{{ name: "{tensor.name}" data_type: {_TYPES[kind.elem_type]} dims: [ {dims} ] }}'
