import os
import socket
import subprocess
import sys

import pytest

from ortolan.bench.process_usage import listeners, usage, with_descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it in /proc")


def test_this_process_uses_cpu_and_memory() -> None:
    found = usage([os.getpid()])
    assert found is not None
    assert found.cpu_s > 0
    assert 1 << 20 < found.shared_out_bytes <= found.resident_bytes


def test_processes_that_are_gone_use_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    assert usage([process.pid]) is None


def test_children_belong_to_their_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in with_descendants([os.getpid()])


def test_who_listens_on_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert os.getpid() in listeners([port])
    assert os.getpid() not in listeners([port])
