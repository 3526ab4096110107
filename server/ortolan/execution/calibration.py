"""What a loaded model costs at each batch size, and whether batching changes its answers: measured before it serves.

The measurement ends early when larger batches clearly gain nothing, and after a budget of time in any case; what was
not measured is taken to cost as much per row as the largest size that was.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from ortolan.errors import Cancelled, InvalidArgument, OrtolanError
from ortolan.execution.cost_curve import CurvePoint, gain, measured_sizes
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.ragged_trial import TrialSession, trial_session
from ortolan.execution.warm_up import Inputs, made_up_inputs
from ortolan.inference.datatypes import BF16, FP16, Array, Datatype, bf16_from_float32, float32_from_bf16
from ortolan.repository.model_config import ModelConfig

BUDGET_S = 0.4
# A model so slow that the budget says nothing of its batches gets more, for as long as they gain.
_LONGEST_S = 4.0
_LONGEST_RUN_NS = 1_000_000_000
_PATIENCE_S = 2.0
_MOST_BYTES = 1 << 28
_RUNS = 9
# How much cheaper a row must get for a larger size to count as better; less is noise.
_CLEARLY = 0.97
_TESTED_ROWS = 4
_LOUDER = 25.0
# Where rows are computed in another order, the last bits differ; beyond this share of a row's largest value it is
# another answer.
_TOLERANCE = 1e-3
_COARSE_TOLERANCES = {FP16: 1e-2, BF16: 5e-2}

BITWISE = "bitwise"
WITHIN_TOLERANCE = "within tolerance"
UNSAFE = "unsafe"
UNTESTED = "untested"
INVARIANCES = (BITWISE, WITHIN_TOLERANCE, UNSAFE, UNTESTED)


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured of one version on its device. No points: it could not be run on made-up inputs."""

    points: tuple[CurvePoint, ...] = ()
    invariance: str = UNTESTED
    """How a row's answer in a batch compares with its answer alone: bitwise, within tolerance, unsafe, untested."""
    unsafe_because: str = ""
    note: str = ""

    @property
    def batching_gain(self) -> float:
        """How many times as many rows per second batches do as single rows; 1 where nothing was measured."""
        return gain(self.points) if self.points else 1.0


def calibrate(config: ModelConfig, session: TrialSession, facts: ModelFacts) -> Profile:
    """Run the model on made-up inputs and describe it. What goes wrong is in the profile's note, nothing is raised."""
    names = [output.name for output in config.outputs]
    trial = _Trial(trial_session(session, config))
    try:
        points = _measure(config, trial, names)
    except (OrtolanError, MemoryError, ValueError) as error:
        return Profile(note=f"it could not be measured on made-up inputs: {error}")
    if config.max_batch_size <= 1:
        return Profile(points)
    if facts.mixes_rows:
        reason = "its dynamic quantisation takes one scale from the whole batch, so that neighbours change an answer"
        return Profile(points, UNSAFE, reason)
    try:
        invariance, reason = _test_invariance(config, trial, points[0].duration_ns)
    except (OrtolanError, _NotTestable) as error:
        return Profile(points, note=f"whether batching changes its answers could not be tested: {error}")
    return Profile(points, invariance, reason)


class _Trial:
    """Runs of a session that end after a while: a model may loop for ever on inputs that no one would send."""

    def __init__(self, session: TrialSession) -> None:
        self._session = session

    def run(self, inputs: Inputs, names: Sequence[str]) -> list[Array]:
        """The outputs; raises InvalidArgument when they take too long, and what the model's run raises."""
        run = self._session.new_run()
        timer = threading.Timer(_PATIENCE_S, run.terminate)
        timer.daemon = True
        timer.start()
        try:
            return self._session.run(inputs, names, run)
        except Cancelled:
            raise InvalidArgument(f"a run was ended after {_PATIENCE_S:g} s") from None
        finally:
            timer.cancel()

    def timed(self, inputs: Inputs, names: Sequence[str]) -> int:
        """Nanoseconds of a run that is known not to take too long."""
        start_ns = time.monotonic_ns()
        self._session.run(inputs, names)
        return time.monotonic_ns() - start_ns


# -- the cost curve ------------------------------------------------------------------------------------------------


def _measure(config: ModelConfig, trial: _Trial, names: Sequence[str]) -> tuple[CurvePoint, ...]:
    start = time.monotonic()
    points: list[CurvePoint] = []
    without_gain = 0
    for rows in measured_sizes(max(1, config.max_batch_size)):
        inputs = made_up_inputs(config, rows, None)
        if points and sum(array.nbytes for array in inputs.values()) > _MOST_BYTES:
            break
        try:
            points.append(_point(trial, inputs, names, rows, start + BUDGET_S))
        except OrtolanError:
            # A model that takes only one row at a time; the test of its batches will say so.
            if not points:
                raise
            break
        gained = len(points) == 1 or _per_row(points[-1]) < _CLEARLY * min(map(_per_row, points[:-1]))
        without_gain = 0 if gained else without_gain + 1
        spent_s = time.monotonic() - start
        too_long = points[-1].duration_ns > _LONGEST_RUN_NS or spent_s > _LONGEST_S
        if too_long or without_gain == 2 or (without_gain and spent_s > BUDGET_S):
            break
    return without_noise(points)


def _point(trial: _Trial, inputs: Inputs, names: Sequence[str], rows: int, end: float) -> CurvePoint:
    """What most runs take, and how far the slow ones lie above it."""
    start_ns = time.monotonic_ns()
    trial.run(inputs, names)
    first = time.monotonic_ns() - start_ns
    if first > _LONGEST_RUN_NS:
        return CurvePoint(rows, first)
    # The first run of a size prepares its memory.
    durations = [trial.timed(inputs, names)]
    while len(durations) < _RUNS and time.monotonic() < end:
        durations.append(trial.timed(inputs, names))
    durations.sort()
    # Others may have held up the larger half of the runs.
    usual = max(1, durations[len(durations) // 4])
    return CurvePoint(rows, usual, durations[len(durations) * 4 // 5] - usual)


def without_noise(points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
    """The points, those that are hardly better than a smaller size made as good as that one."""
    found: list[CurvePoint] = []
    best = float("inf")
    for point in points:
        if _per_row(point) < _CLEARLY * best:
            best = _per_row(point)
        found.append(CurvePoint(point.rows, max(point.duration_ns, ceil(best * point.rows)), point.spread_ns))
    return tuple(found)


def _per_row(point: CurvePoint) -> float:
    return point.duration_ns / point.rows


# -- whether rows keep to themselves -------------------------------------------------------------------------------


class _NotTestable(Exception):
    """Why batches cannot be compared with single rows."""


def _test_invariance(config: ModelConfig, trial: _Trial, row_ns: int) -> tuple[str, str]:
    """The class of the model and, if it is unsafe, why: single answers against those in a batch of loud neighbours."""
    rows = min(_TESTED_ROWS if row_ns < _LONGEST_RUN_NS // 10 else 2, config.max_batch_size)
    names = [output.name for output in config.outputs]
    inputs = _loud_inputs(config, rows)
    singles = [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(rows)]
    alone = [trial.run(single, names) for single in singles]
    try:
        together = trial.run(inputs, names)
    except OrtolanError:
        return UNSAFE, f"it takes single rows, but fails for {rows} at once"
    datatypes = [output.datatype for output in config.outputs]
    worst = BITWISE
    for index, (name, datatype) in enumerate(zip(names, datatypes, strict=True)):
        invariance, reason = _compare_output(name, datatype, together[index], [answer[index] for answer in alone])
        if invariance == UNSAFE:
            again = trial.run(singles[0], names)[index]
            if _compare(datatype, again, alone[0][index]) == UNSAFE:
                raise _NotTestable("they differ from run to run for the same input")
            return UNSAFE, reason
        worst = invariance if invariance != BITWISE else worst
    return worst, ""


def _loud_inputs(config: ModelConfig, rows: int) -> Inputs:
    """Random inputs whose rows but the first are large: a scale shared across the batch shows in the first's answer."""
    inputs = dict(made_up_inputs(config, rows, np.random.default_rng(1)))
    factors = np.full(rows, _LOUDER)
    factors[0] = 1.0
    for spec in config.inputs:
        if spec.name in inputs and spec.datatype.is_float:
            array = inputs[spec.name]
            numbers = _numbers(array, spec.datatype) * factors.reshape(-1, *[1] * (array.ndim - 1))
            bf16 = spec.datatype is BF16
            inputs[spec.name] = bf16_from_float32(numbers.astype(np.float32)) if bf16 else numbers.astype(array.dtype)
    return inputs


def _compare_output(name: str, datatype: Datatype, together: Array, alone: Sequence[Array]) -> tuple[str, str]:
    rows = len(alone)
    if not together.shape or together.shape[0] != rows or any(single.shape[:1] != (1,) for single in alone):
        return UNSAFE, f"its output '{name}' does not keep the batch dimension"
    if any(single.shape[1:] != together.shape[1:] for single in alone):
        return UNSAFE, f"the shape of its output '{name}' depends on the other rows of the batch"
    # Row by row, so that a loud row does not hide what happens to the quiet one.
    classes = {_compare(datatype, together[row : row + 1], single) for row, single in enumerate(alone)}
    if UNSAFE in classes:
        return UNSAFE, f"its output '{name}' depends on the other rows of the batch"
    return WITHIN_TOLERANCE if WITHIN_TOLERANCE in classes else BITWISE, ""


def _compare(datatype: Datatype, first: Array, second: Array) -> str:
    if not datatype.is_float:
        return BITWISE if np.array_equal(first, second) else UNSAFE
    ones, others = _numbers(first, datatype), _numbers(second, datatype)
    if np.array_equal(ones, others, equal_nan=True):
        return BITWISE
    tolerance = _COARSE_TOLERANCES.get(datatype, _TOLERANCE)
    largest = float(np.max(np.abs(others), where=np.isfinite(others), initial=0.0))
    near = np.allclose(ones, others, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
    return WITHIN_TOLERANCE if near else UNSAFE


def _numbers(array: Array, datatype: Datatype) -> npt.NDArray[np.float64]:
    """The values of a tensor of floating point numbers."""
    return (float32_from_bf16(array.view(np.uint16)) if datatype is BF16 else array).astype(np.float64)
