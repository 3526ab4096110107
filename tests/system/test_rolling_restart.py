"""Clients without retries, who learn of a stopping replica two seconds late, lose nothing while all are restarted."""

from pathlib import Path

import rolling_restart
from rolling_restart import Plan

ROLLING = Plan(seconds=16, restarts=2, drain_delay_s=4)
WITHOUT_DRAIN = Plan(seconds=8, restarts=2, drain_delay_s=0)
# Half of the rate for two seconds, twice, would be 400.
MANY = 50


def test_restarts_lose_nothing(tmp_path: Path) -> None:
    report = rolling_restart.naive(ROLLING, tmp_path)
    assert (report.failed, report.wrong) == (0, 0), report
    assert [each.exit_code for each in report.restarts] == [0] * ROLLING.restarts
    assert report.sent_enough, report


def test_the_same_clients_lose_many_requests_to_replicas_that_do_not_drain(tmp_path: Path) -> None:
    report = rolling_restart.naive(WITHOUT_DRAIN, tmp_path)
    assert report.failed >= MANY, report
    assert report.wrong == 0, report
