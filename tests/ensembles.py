"""Ensembles for tests, as directories of a model repository."""

from collections.abc import Sequence
from pathlib import Path

Link = tuple[str, str]


def step(model: str, inputs: Sequence[Link], outputs: Sequence[Link], version: int = -1) -> str:
    """One step; links are (name in the model, name in the ensemble)."""
    taken = " ".join(f'input_map {{ key: "{theirs}" value: "{ours}" }}' for theirs, ours in inputs)
    given = " ".join(f'output_map {{ key: "{theirs}" value: "{ours}" }}' for theirs, ours in outputs)
    return f'step {{ model_name: "{model}" model_version: {version} {taken} {given} }}'


def chain(*models: str, version: int = -1, ends: Link = ("in", "out")) -> str:
    """Steps one after another, each of a model with the input x and the output y."""
    names = [ends[0], *(f"t{index}" for index in range(1, len(models))), ends[1]]
    links = zip(models, names, names[1:], strict=False)
    return " ".join(step(model, [("x", taken)], [("y", given)], version) for model, taken, given in links)


def config(
    steps: str,
    inputs: Sequence[str] = ("in",),
    outputs: Sequence[str] = ("out",),
    max_batch_size: int = 8,
    extra: str = "",
    type_name: str = "TYPE_FP32",
) -> str:
    """A configuration whose tensors have four elements a row."""
    tensors = [
        *(f'input {{ name: "{name}" data_type: {type_name} dims: 4 }}' for name in inputs),
        *(f'output {{ name: "{name}" data_type: {type_name} dims: 4 }}' for name in outputs),
    ]
    head = f'platform: "ensemble" max_batch_size: {max_batch_size} {extra}'
    return "\n".join([head, *tensors, f"ensemble_scheduling {{ {steps} }}"])


def save(repository: Path, name: str, text: str) -> Path:
    """The ensemble's directory, with the version 1 that Triton wants to see there, empty."""
    directory = repository / name
    (directory / "1").mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(text)
    return directory


def save_like_a_model(repository: Path, name: str, *models: str) -> Path:
    """An ensemble with the input x and the output y, so that others can have it for a step."""
    return save(repository, name, config(chain(*models, ends=("x", "y")), inputs=["x"], outputs=["y"]))
