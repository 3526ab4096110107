"""What the meter makes of the numbers of real versions; the numbers are written by hand, so that they are known."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_models
import pytest

from ortolan.core.load_meter import LoadMeter
from ortolan.core.model_version import LoadedModel, ModelVersion
from ortolan.core.utilization import VersionUse
from ortolan.execution.batch_policy import Batching
from ortolan.execution.calibration import Profile
from ortolan.execution.cost_curve import CurveBook, CurvePoint
from ortolan.execution.device_share import DeviceShare
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_statistics import ExecutionTimes, FailureReason
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.waiting_line import LinePolicy
from ortolan.repository.model_config import InstanceKind, ModelConfig

MS = 1_000_000
PLACE = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
# Eight rows take as long as one.
POINTS = (CurvePoint(1, 10 * MS), CurvePoint(8, 10 * MS))
EIGHT = Batching(8)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(onnx_models.doubler().SerializeToString(), "m", SessionSettings(), PLACE, Path())


def version_of(
    session: Session, batching: Batching, curves: CurveBook | None, devices: Sequence[str] = ("CPU",)
) -> ModelVersion:
    """One that is never started: nothing but what is counted by hand happens in it."""
    plan = SchedulingPlan(batching, LinePolicy(), curves=curves)
    instances = tuple((f"m_{number}", session, DeviceShare(4)) for number in range(len(devices)))
    loaded = LoadedModel("m", 1, ModelConfig("m"), instances, plan, Profile(), tuple(devices), 1, (), 0)
    return ModelVersion(loaded, QueueLimits(), asyncio.get_running_loop())


def run(version: ModelVersion, rows: int, ns: int, count: int = 1) -> None:
    for _ in range(count):
        version.statistics.count_execution(rows, ExecutionTimes(0, 1, ns - 1, ns))


def use_of(meter: LoadMeter) -> VersionUse:
    (use,) = meter.use().versions.values()
    return use


def needed_part(use: VersionUse) -> float:
    """Which part of their time the runs needed."""
    return sum(use.demand.values()) / (use.busy * sum(use.room.values()))


# the batches that ran, as rows and times, and which part of their time their rows needed
RUNS = [
    # one by one: the same could have been done in an eighth of the time
    (EIGHT, [(1, 10, 40)], 1 / 8),
    (EIGHT, [(8, 10, 5)], 1.0),
    (EIGHT, [(1, 10, 8), (8, 10, 1)], (8 / 8 + 1) / 9),
    # faster than was ever measured: never more than it took
    (EIGHT, [(8, 5, 10)], 1.0),
    # requests do not share runs: none could have done more
    (Batching(1), [(1, 10, 40)], 1.0),
]


@pytest.mark.parametrize(("batching", "runs", "part"), RUNS)
async def test_rows_need_what_they_take_in_the_best_batch(
    session: Session, batching: Batching, runs: list[tuple[int, int, int]], part: float
) -> None:
    version = version_of(session, batching, CurveBook(POINTS, 8, rows_vary=False))
    meter = LoadMeter(lambda: [version])
    run(version, 1, 10 * MS, 1000)
    meter.look()
    meter.look()
    assert use_of(meter).busy == 0
    for rows, ms, count in runs:
        run(version, rows, ms * MS, count)
    meter.look()
    use = use_of(meter)
    assert use.busy == 1.0
    assert needed_part(replace(use, busy=busy_ns(runs) / meter.window_ns)) == pytest.approx(part, rel=1e-6)


def busy_ns(runs: list[tuple[int, int, int]]) -> int:
    return sum(ms * MS * count for _, ms, count in runs)


async def test_without_a_curve_it_is_what_the_runs_took(session: Session) -> None:
    version = version_of(session, EIGHT, None)
    meter = LoadMeter(lambda: [version])
    meter.look()
    run(version, 1, 30 * MS)
    version.statistics.failed_run_ns += 10 * MS
    meter.look()
    assert use_of(meter).demand["CPU"] == pytest.approx(40 * MS / meter.window_ns)


async def test_where_rows_differ_it_is_as_was_observed(session: Session) -> None:
    curves = CurveBook(POINTS, 8, rows_vary=True)
    version = version_of(session, EIGHT, curves)
    meter = LoadMeter(lambda: [version])
    for _ in range(20):
        curves.observe(100, 1, 10 * MS)
        curves.observe(10_000, 1, 40 * MS)
    meter.look()
    for _ in range(20):
        # Each row takes as long as in a whole batch of rows of its size; of the small ones an eighth would do.
        curves.observe(100, 1, 10 * MS)
        curves.observe(10_000, 8, 40 * MS)
    run(version, 1, 10 * MS, 20)
    run(version, 8, 40 * MS, 20)
    meter.look()
    needed_ns = use_of(meter).demand["CPU"] * meter.window_ns
    assert needed_ns == pytest.approx(20 * (10 / 8 + 40) * MS, rel=0.1)


async def test_of_a_gpu_only_what_runs_take_alone_counts(session: Session) -> None:
    parts = []
    for device in ("CPU", "GPU 0"):
        curves = CurveBook(POINTS, 8, rows_vary=False)
        # Others are on the device at the same time: all runs take twice as long.
        for _ in range(1000):
            curves.observe(0, 8, 20 * MS)
        version = version_of(session, EIGHT, curves, [device])
        meter = LoadMeter(lambda version=version: [version])  # type: ignore[misc]
        meter.look()
        run(version, 8, 20 * MS, 10)
        meter.look()
        parts.append(use_of(meter).demand[device] * meter.window_ns / (200 * MS))
    assert parts[0] == pytest.approx(1.0, abs=0.02)
    assert parts[1] < 0.7


async def test_refusals_and_answers_are_counted_together(session: Session) -> None:
    version = version_of(session, EIGHT, CurveBook(POINTS, 8, rows_vary=False))
    meter = LoadMeter(lambda: [version])
    meter.look()
    run(version, 8, 60_000 * MS)
    version.statistics.count_failure(5, FailureReason.REJECTED)
    meter.look()
    assert use_of(meter).is_full


async def test_versions_that_are_gone_leave_nothing_behind(session: Session) -> None:
    serving = [version_of(session, EIGHT, None)]
    meter = LoadMeter(lambda: serving)
    meter.look()
    meter.look()
    assert list(meter.use().versions) == ["m/1"]
    serving.clear()
    assert not meter.use().versions
    meter.look()
    assert not meter.use().versions
