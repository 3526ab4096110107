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
from ortolan.repository.model_directory import DEFAULT_MODEL_FILENAME, ModelEntry
from ortolan.repository.outside_text import NOT_SHOWN
from ortolan.repository.private_files import FileRefused, content_of, open_anywhere
from ortolan.repository.tensor_proto import NamedTensor, parse_tensor

GoldenRule = Literal["check", "require", "off"]
Check = Callable[[Path, str], None]

_FILE = re.compile(r"(input|output)_(0|[1-9][0-9]{0,5})\.pb")
_SHOWN = 80
_LARGEST_BYTES = (1 << 31) - 1
"""Of a serialized message, as protobuf has it."""


class DataSetRefused(ValueError):
    """A data set that cannot be used: which, and why, as a sentence."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One request and its answer, both in the order of their files."""

    name: str
    inputs: tuple[NamedTensor, ...]
    outputs: tuple[NamedTensor, ...]
    may_be_shown: bool = True
    """Whether messages may quote it: not if a link leads to any of it from outside."""


@dataclass(frozen=True, slots=True)
class GoldenPlace:
    """Where a version's golden requests may be: ``parents``, of which the first counts that has any.

    ``roots`` are the directories of which messages may quote files.
    """

    parents: tuple[Path, ...]
    roots: tuple[Path, ...]


def golden_place(entry: ModelEntry, version: Path, model: Path | None = None) -> GoldenPlace:
    """Where the golden requests of the version in the directory ``version`` may be, and of its file ``model``.

    They are in the file's own directory, its version's or its model's. A file that shares the model's directory with
    other models has none there, for they could be another's.
    """
    directory = entry.directory
    roots = (directory, entry.repository)
    if model is None:
        return GoldenPlace(tuple(dict.fromkeys((version, directory))), (version, *roots))
    if model.parent == directory and model.name != DEFAULT_MODEL_FILENAME:
        return GoldenPlace((), ())
    loose = version == directory and model.parent != directory and model.parent.suffix == ".onnx"
    parents = (model.parent,) if loose else tuple(dict.fromkeys((model.parent, version, directory)))
    return GoldenPlace(parents, (*parents, *roots))


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
    """The data set in ``directory``, of which may be shown what is in ``roots`` once links are followed.

    ``check`` is asked about each file and its SHA-256. Raises DataSetRefused naming the file that cannot be used.
    """
    name = printable(directory.name, _SHOWN)
    inputs = [_tensor(path, name, roots, check) for path in _files(directory, name, "input")]
    outputs = [_tensor(path, name, roots, check) for path in _files(directory, name, "output")]
    return DataSet(
        name,
        tuple(tensor for tensor, _ in inputs),
        tuple(tensor for tensor, _ in outputs),
        all(may_be_shown for _, may_be_shown in (*inputs, *outputs)),
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


def _tensor(path: Path, name: str, roots: Sequence[Path], check: Check) -> tuple[NamedTensor, bool]:
    """The tensor, and whether messages may quote it."""
    may_be_shown = False
    try:
        file, may_be_shown = open_anywhere(path, roots)
        with file:
            content = content_of(file, _LARGEST_BYTES)
        check(path, hashlib.sha256(content).hexdigest())
        return parse_tensor(content), may_be_shown
    except (FileRefused, OSError) as reason:
        raise DataSetRefused(f"{name}/{path.name} {reason}") from reason
    except ValueError as error:
        why = f": {error}" if may_be_shown else f"; {NOT_SHOWN}"
        raise DataSetRefused(f"{name}/{path.name} cannot be used{why}") from (error if may_be_shown else None)
