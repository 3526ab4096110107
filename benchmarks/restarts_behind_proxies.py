"""Restarts of replicas in turns under load: what clients lose, chosen by themselves and behind each proxy.

Run by `make rolling-restart`, some seven minutes. Two servers on this machine, 200 requests a second for a minute and
eight restarts. Behind a proxy half of the requests are REST's and half gRPC's. Clients that choose themselves learn of
a stopping replica two seconds late; nobody sends again what has failed. Exit code 1 when anything was lost, or nothing
was where it had to be, without a drain.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import proxies
import rolling_restart
from rolling_restart import Plan, Report

ROLLING = Plan(seconds=60, restarts=8, drain_delay_s=5)
_HEADINGS = (
    "before the replicas",
    "drain",
    "restarts",
    "requests",
    "failed",
    "wrong",
    "p50",
    "p99",
    "most",
    "unready",
    "stop",
)
_WIDTHS = (24, 6, 9, 15, 7, 6, 9, 9, 9, 9, 7)


def measure(title: str, run: Callable[[Plan, Path], Report], plan: Plan) -> Report:
    with tempfile.TemporaryDirectory() as directory:
        report = run(plan, Path(directory))
    unready_ms, stop_s = (max(getattr(each, name) for each in report.restarts) for name in ("unready_ms", "stop_s"))
    for protocol, outcome in report.outcomes.items():
        quantiles = [f"{outcome.quantile_ms(quantile):.1f} ms" for quantile in (0.5, 0.99, 1)]
        requests = f"{outcome.sent} of {outcome.due}"
        times = (f"{unready_ms:.0f} ms", f"{stop_s:.1f} s")
        line(
            f"{title}, {protocol}",
            f"{plan.drain_delay_s:g} s",
            len(report.restarts),
            requests,
            outcome.failed,
            outcome.wrong,
            *quantiles,
            *times,
        )
        for reason, times_seen in outcome.failures.most_common(3):
            print(f"    {times_seen} x {reason}")
    return report


def line(*cells: object) -> None:
    print("".join(f"{cell!s:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)), flush=True)


def main() -> int:
    line(*_HEADINGS)
    reports = [measure("clients themselves", rolling_restart.naive, ROLLING)]
    for name in proxies.CONFIGURATIONS:
        if isinstance(proxy := proxies.found(name), str):
            print(f"    {proxy}")
        else:
            reports.append(measure(name, partial(rolling_restart.behind, proxy), ROLLING))
    without = measure("clients themselves", rolling_restart.naive, replace(ROLLING, drain_delay_s=0))
    lost = any(report.failed or report.wrong or any(each.exit_code for each in report.restarts) for report in reports)
    return int(lost or not without.failed)


if __name__ == "__main__":
    sys.exit(main())
