"""Looks at what the versions did, from time to time, for how much of the server is in use (``utilization``)."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ortolan.core.loop_clock import LoopClock
from ortolan.core.model_version import LoadedModel
from ortolan.core.served_version import ServedVersion
from ortolan.core.utilization import CPU, Look, ProcessUse, VersionPlaces, VersionWork, loop_between, use_between
from ortolan.core.version_totals import key_of
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.model_statistics import FailureReason, ModelStatistics
from ortolan.execution.sequence_scheduler import AnyScheduler

_WINDOW_NS = 10_000_000_000


class LoadMeter:
    """The last ten seconds. Lives on the event loop; whoever has it calls ``look`` again and again."""

    def __init__(self, serving: Callable[[], Iterable[ServedVersion]]) -> None:
        self._serving = serving
        self._clock = LoopClock()
        self._looks: deque[Look] = deque()
        self._accounts: dict[object, _Account] = {}

    def look(self) -> None:
        """In the loop's thread, whose processor time counts."""
        now_ns = time.monotonic_ns()
        found = [(version, version.loaded) for version in self._serving() if version.loaded is not None]
        # Versions that are gone leave nothing behind.
        self._accounts = {each.identity: self._accounts.get(each.identity) or _Account() for each, _ in found}
        works = {
            each.identity: _work(each.schedulers[0], loaded, self._accounts[each.identity], now_ns)
            for each, loaded in found
        }
        self._looks.append(Look(now_ns, time.thread_time_ns(), self._clock.occupied_ns(), works))
        while len(self._looks) > 2 and now_ns - self._looks[1].now_ns >= _WINDOW_NS:
            self._looks.popleft()

    @property
    def window_ns(self) -> int:
        """Of how long ``use`` tells."""
        return self._looks[-1].now_ns - self._looks[0].now_ns

    def use(self) -> ProcessUse:
        """What this process took between the first and the last look; nothing before there are two."""
        if len(self._looks) < 2:
            return ProcessUse()
        looks = list(self._looks)
        use = ProcessUse(*loop_between(looks[0], looks[-1]))
        for version in self._serving():
            if version.loaded is None or version.identity not in looks[-1].versions:
                continue
            places = VersionPlaces(Counter(version.loaded.devices), version.loaded.intra_op_threads)
            use.places |= _rooms_of(version.loaded)
            use.versions[key_of(version.name, version.number_text)] = use_between(looks, version.identity, places)
        return use


@dataclass(slots=True)
class _Account:
    """What was worked out of one version so far."""

    needed_ns: float = 0.0
    by_rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By rows: how many executions there were, and what they took."""
    failed_run_ns: int = 0
    observed: tuple[float, float] = (0.0, 0.0)
    share: float = 1.0
    """Which part of their time executions needed, where rows do not all cost the same."""


def _rooms_of(loaded: LoadedModel) -> dict[str, int]:
    """Cores of the CPU; a GPU is one thing, even where one batch is copied while another is computed."""
    placed = zip(loaded.devices, loaded.instances, strict=True)
    return {device: share.places if device == CPU else 1 for device, (_, _, share) in placed}


def _work(scheduler: AnyScheduler, loaded: LoadedModel, account: _Account, now_ns: int) -> VersionWork:
    statistics, needs = scheduler.statistics, _needs(scheduler, loaded, account)
    done_ns = _settle(account, statistics, needs)
    needed_ns = account.needed_ns
    for instance in scheduler.instances:
        if (running := instance.running) is not None:
            ns = max(0, now_ns - running.started_ns)
            done_ns += ns
            needed_ns += needs(sum(request.rows for request in running.requests), ns)
    at_once = len(scheduler.instances) * max(1, scheduler.plan.batching.max_rows)
    return VersionWork(
        needed_ns=needed_ns,
        busy_ns=done_ns - scheduler.inline_ns,
        inline_ns=scheduler.inline_ns,
        asked=statistics.success.count + statistics.fail.count,
        refused=statistics.failures[FailureReason.REJECTED],
        waits_deep=scheduler.waiting_requests > at_once,
    )


def _needs(scheduler: AnyScheduler, loaded: LoadedModel, account: _Account) -> Callable[[int, int], float]:
    """What so many rows that took so many nanoseconds would have needed in the best batches."""
    curves, max_rows = scheduler.plan.curves, scheduler.plan.batching.max_rows
    if curves is None or max_rows <= 1:
        # Requests do not share runs, so that no run could have done more.
        return lambda _, ns: float(ns)
    if (share := _observed_share(account, curves)) is not None:
        return lambda _, ns: ns * share
    row_ns = curves.base.needed_ns_per_row(max_rows, apart=CPU not in loaded.devices)
    return lambda rows, ns: min(float(ns), rows * row_ns)


def _observed_share(account: _Account, curves: CurveBook) -> float | None:
    """By what was observed since the last look; None where all rows cost the same, and their number says it."""
    needed_ns, took_ns = curves.needed_of_observed_ns
    if not took_ns:
        return None
    if (more_ns := took_ns - account.observed[1]) > 0:
        account.share = (needed_ns - account.observed[0]) / more_ns
        account.observed = (needed_ns, took_ns)
    return account.share


def _settle(account: _Account, statistics: ModelStatistics, needs: Callable[[int, int], float]) -> int:
    """Bring the account up to date. Returns what all executions took since the version was loaded."""
    total_ns = statistics.failed_run_ns
    account.needed_ns += total_ns - account.failed_run_ns
    account.failed_run_ns = total_ns
    for rows, batch in statistics.batches.items():
        count = batch.compute_infer.count
        ns = batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns
        total_ns += ns
        count_before, ns_before = account.by_rows.get(rows, (0, 0))
        if count > count_before:
            account.by_rows[rows] = (count, ns)
            account.needed_ns += needs((count - count_before) * rows, ns - ns_before)
    return total_ns
