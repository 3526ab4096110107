"""Golden requests and what they declare: whether they fit a model, and whether its answers are close enough. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ortolan.inference.datatypes import BF16, BOOL, BYTES, FP16, FP32, FP64, Array, Datatype, float32_from_bf16
from ortolan.inference.printable import printable
from ortolan.repository.golden_files import DataSet, DataSetRefused
from ortolan.repository.tensor_proto import NamedTensor

RTOL, ATOL = "golden_rtol", "golden_atol"
"""The model parameters that take the place of the tolerances below."""

_SHOWN = 80
# Relative and absolute: several times what other kernels, fused or summed in another order, make of the same graph.
_TOLERANCES = {FP64: (1e-5, 1e-8), FP32: (1e-3, 1e-5), FP16: (1e-2, 1e-3), BF16: (3e-2, 1e-2)}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An element may differ by ``atol + rtol * |expected|``, as numpy has it."""

    rtol: float = 0.0
    atol: float = 0.0

    @property
    def exact(self) -> bool:
        return not (self.rtol or self.atol)


@dataclass(frozen=True, slots=True)
class Difference:
    """The element that is furthest beyond the tolerance, and how many of how many are beyond it."""

    index: tuple[int, ...]
    expected: str
    got: str
    count: int
    of: int


class Declared(Protocol):
    """An input or output, of a graph or of an ensemble."""

    @property
    def name(self) -> str: ...

    @property
    def datatype(self) -> Datatype: ...

    @property
    def optional(self) -> bool: ...


Named = dict[str, NamedTensor]


def fitted(data_set: DataSet, inputs: Sequence[Declared], outputs: Sequence[Declared]) -> tuple[Named, Named]:
    """The tensors of ``data_set`` by the names of the declared ``inputs`` and ``outputs``.

    Raises DataSetRefused when they do not fit.
    """
    given = _by_name(data_set, "input", data_set.inputs, inputs)
    expected = _by_name(data_set, "output", data_set.outputs, outputs)
    missing = [each.name for each in inputs if not each.optional and each.name not in given]
    if missing:
        raise DataSetRefused(f"{data_set.name} has no tensor for input '{missing[0]}'")
    return given, expected


def compare(data_set: DataSet, expected: Named, answers: Sequence[Array], parameters: Mapping[str, str]) -> None:
    """Raises DataSetRefused naming the worst element of ``answers`` that is not as ``expected``, in its order."""
    for (name, tensor), got in zip(expected.items(), answers, strict=True):
        _compare(f"{data_set.name}: output '{name}'", got, tensor, parameters)


def tolerance_of(datatype: Datatype, parameters: Mapping[str, str]) -> Tolerance:
    """How far an element of ``datatype`` may be off; integers, booleans and texts by nothing if not said otherwise."""
    if datatype in (BYTES, BOOL):
        return Tolerance()
    rtol, atol = _TOLERANCES.get(datatype, (0.0, 0.0))
    return Tolerance(float(parameters.get(RTOL, rtol)), float(parameters.get(ATOL, atol)))


def worst_difference(got: Array, expected: Array, datatype: Datatype, tolerance: Tolerance) -> Difference | None:
    """Where two arrays of one shape differ most; None where every element is within ``tolerance``.

    A NaN equals a NaN, and an infinity itself only.
    """
    if datatype is BYTES or datatype is BOOL or (datatype.is_integer and tolerance.exact):
        beyond = np.asarray(got != expected)
        distance = beyond.astype(np.float64)
        if datatype.is_integer:
            distance *= np.abs(_numbers(got, datatype) - _numbers(expected, datatype)) + 1
    else:
        distance = _excess(_numbers(got, datatype), _numbers(expected, datatype), tolerance)
        beyond = distance > 0
    if not beyond.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), got.shape))
    return Difference(
        index, _text(expected[index], datatype), _text(got[index], datatype), int(beyond.sum()), int(got.size)
    )


def _by_name(
    data_set: DataSet, kind: str, given: Sequence[NamedTensor], declared: Sequence[Declared]
) -> dict[str, NamedTensor]:
    """The tensors by the graph's names: by their own, or for lack of names by their order."""
    if len(given) > len(declared):
        raise DataSetRefused(f"{data_set.name} has {len(given)} {kind}s, but the model has {len(declared)}")
    if kind == "output" and len(given) < len(declared) and not all(tensor.name for tensor in given):
        raise DataSetRefused(
            f"{data_set.name} has {len(given)} outputs, but the model has {len(declared)}: give all of them, or give "
            "those that are there their names"
        )
    known = {tensor.name: tensor for tensor in declared}
    found: dict[str, NamedTensor] = {}
    for number, tensor in enumerate(given):
        name = tensor.name or declared[number].name
        what = f"{data_set.name}/{kind}_{number}.pb"
        if name not in known:
            raise DataSetRefused(
                f"{what} is called '{printable(name, _SHOWN)}', but the model's {kind}s are "
                f"{', '.join(repr(each) for each in known)}; without a name it is taken for its number's"
            )
        if name in found:
            raise DataSetRefused(f"{what} is a second tensor for {kind} '{name}'")
        if tensor.datatype is not known[name].datatype:
            raise DataSetRefused(
                f"{what} is of {tensor.datatype.name}, but {kind} '{name}' is of {known[name].datatype.name}"
            )
        found[name] = tensor
    return found


def _compare(what: str, got: Array, expected: NamedTensor, parameters: Mapping[str, str]) -> None:
    if got.shape != expected.array.shape:
        raise DataSetRefused(f"{what} has shape {list(got.shape)}, expected {list(expected.array.shape)}")
    tolerance = tolerance_of(expected.datatype, parameters)
    worst = worst_difference(got, expected.array, expected.datatype, tolerance)
    if worst is not None:
        allowed = "" if tolerance.exact else f", which may differ by {tolerance.atol:g} + {tolerance.rtol:g} * expected"
        raise DataSetRefused(
            f"{what} at {list(worst.index)}: expected {worst.expected}, got {worst.got}{allowed}; the worst of "
            f"{worst.count} elements of {worst.of} that are wrong"
        )


def _numbers(array: Array, datatype: Datatype) -> npt.NDArray[np.float64]:
    if datatype is BF16:
        return float32_from_bf16(array.astype(np.uint16)).astype(np.float64)
    return array.astype(np.float64)


def _excess(
    got: npt.NDArray[np.float64], expected: npt.NDArray[np.float64], tolerance: Tolerance
) -> npt.NDArray[np.float64]:
    """By how much each element is beyond the tolerance; not more than 0 where it is not, infinite for wrong infinities
    and NaNs."""
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        excess = np.abs(got - expected) - (tolerance.atol + tolerance.rtol * np.abs(expected))
    excess = np.where(np.isfinite(got) & np.isfinite(expected), excess, np.inf)
    return np.where(same, 0.0, excess)


def _text(element: object, datatype: Datatype) -> str:
    if datatype is BYTES and isinstance(element, bytes):
        return repr(printable(element.decode("utf-8", "backslashreplace"), _SHOWN))
    if datatype is BF16:
        return str(float32_from_bf16(np.asarray(element, np.uint16)).item())
    return str(element)
