"""``test_data_set_*``: requests to a model with the answers that it must give, as the ONNX model zoo keeps them.

``input_0.pb``, ``output_0.pb`` and so on are serialized TensorProtos, numbered in the order of the graph's inputs and
outputs. A tensor's own name, where it has one, is what counts.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ortolan.inference.printable import printable
from ortolan.repository.file_names import is_golden_directory
from ortolan.repository.model_directory import DEFAULT_MODEL_FILENAME
from ortolan.repository.private_files import FileRefused, open_inside
from ortolan.repository.tensor_proto import NamedTensor, parse_tensor

GoldenRule = Literal["check", "require", "off"]
Check = Callable[[Path, str], None]

_FILE = re.compile(r"(input|output)_(0|[1-9][0-9]{0,5})\.pb")
_SHOWN = 80


class DataSetRefused(ValueError):
    """A data set that cannot be used: which, and why, as a sentence."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One request and its answer, both in the order of their files."""

    name: str
    inputs: tuple[NamedTensor, ...]
    outputs: tuple[NamedTensor, ...]


def golden_parents(model: Path, version: Path, directory: Path) -> tuple[Path, ...]:
    """Where the golden requests of the file ``model`` may be: in its own directory, its version's, its model's.

    A file that shares ``directory`` with other models has none there, for they could be another's.
    """
    if model.parent == directory and model.name != DEFAULT_MODEL_FILENAME:
        return ()
    loose = version == directory and model.parent != directory and model.parent.suffix == ".onnx"
    return (model.parent,) if loose else tuple(dict.fromkeys((model.parent, version, directory)))


def data_set_directories(parents: Sequence[Path]) -> list[Path]:
    """The directories ``test_data_set_*`` in the first of ``parents`` that has any, in the order of their numbers.

    Raises DataSetRefused when they cannot be listed.
    """
    for parent in parents:
        try:
            found = [path for path in parent.iterdir() if is_golden_directory(path.name) and path.is_dir()]
        except OSError as error:
            raise DataSetRefused(f"the model's golden requests cannot be listed: {error.strerror}") from error
        if found:
            return sorted(found, key=lambda path: (len(path.name), path.name))
    return []


def read_data_set(directory: Path, roots: Sequence[Path], check: Check) -> DataSet:
    """The data set in ``directory``, whose files' symbolic links stay within ``roots``.

    ``check`` is asked about each file and its SHA-256. Raises DataSetRefused naming the file that cannot be used.
    """
    name = printable(directory.name, _SHOWN)
    return DataSet(
        name,
        tuple(_tensor(path, name, roots, check) for path in _files(directory, name, "input")),
        tuple(_tensor(path, name, roots, check) for path in _files(directory, name, "output")),
    )


def _files(directory: Path, name: str, kind: str) -> list[Path]:
    """``<kind>_0.pb`` and so on. Raises DataSetRefused when one is missing in between, or there are none."""
    try:
        found = [match for path in directory.iterdir() if (match := _FILE.fullmatch(path.name)) and match[1] == kind]
    except OSError as error:
        raise DataSetRefused(f"{name} cannot be listed: {error.strerror}") from error
    numbers = sorted(int(match[2]) for match in found)
    if kind == "output" and not numbers:
        raise DataSetRefused(f"{name} has no output_0.pb, so that there is nothing to compare with")
    if numbers != list(range(len(numbers))):
        missing = next(number for number in range(len(numbers)) if number not in numbers)
        raise DataSetRefused(f"{name} has no {kind}_{missing}.pb, but has {kind}_{numbers[-1]}.pb")
    return [directory / f"{kind}_{number}.pb" for number in numbers]


def _tensor(path: Path, name: str, roots: Sequence[Path], check: Check) -> NamedTensor:
    try:
        with open_inside(path, roots) as file:
            content = file.read()
        check(path, hashlib.sha256(content).hexdigest())
        return parse_tensor(content)
    except (FileRefused, OSError) as reason:
        raise DataSetRefused(f"{name}/{path.name} {reason}") from reason
    except ValueError as error:
        raise DataSetRefused(f"{name}/{path.name} cannot be used: {error}") from error
