"""A few seconds of everything at once; `make soak` does it for minutes and looks at what stays in memory."""

import sys
from pathlib import Path

import pytest
from reload_traffic import descriptors
from server_process import running
from whole_soak import FLAGS, save_models, whole_soak

SECONDS = 6.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc as Linux has it")
def test_of_everything_at_once_nothing_is_lost_or_wrong(tmp_path: Path) -> None:
    save_models(tmp_path / "models")
    log = tmp_path / "log"
    with running(tmp_path / "models", *FLAGS, log=log) as server:
        before = descriptors(server.process.pid)
        found = whole_soak(server, SECONDS)
        assert server.process.poll() is None
        assert found.faults == []
        assert found.load.verdicts.total() == 0
        assert found.left.descriptors <= before
        assert found.load.counts.total() > 0
        assert found.reloads[200] > 0
    assert "Traceback" not in log.read_text()
