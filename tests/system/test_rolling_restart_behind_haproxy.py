"""HAProxy, which asks for readiness over REST, also on behalf of gRPC, loses nothing."""

from pathlib import Path

import proxies
import pytest
import rolling_restart
from rolling_restart import Plan

ROLLING = Plan(seconds=10, restarts=2, drain_delay_s=3)


def test_restarts_behind_haproxy_lose_nothing(tmp_path: Path) -> None:
    proxy = proxies.found("haproxy")
    if isinstance(proxy, str):
        pytest.skip(proxy)
    report = rolling_restart.behind(proxy, ROLLING, tmp_path)
    assert (report.failed, report.wrong) == (0, 0), report
    assert [each.exit_code for each in report.restarts] == [0] * ROLLING.restarts
    assert report.sent_enough, report
