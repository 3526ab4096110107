import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ortolan.service_manager import ServiceManager, service_manager

TIMEOUT_S = 20.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(TIMEOUT_S)
        yield listening


def test_what_is_told_is_what_systemd_reads(manager: socket.socket) -> None:
    service = ServiceManager(manager.getsockname())
    service.loading()
    service.ready("serving")
    service.stopping()
    told = [manager.recv(4096).decode() for _ in range(3)]
    assert told == ["STATUS=loading models", "READY=1\nSTATUS=serving", "STOPPING=1\nSTATUS=finishing what is inside"]


def test_a_name_behind_an_at_sign_is_an_abstract_one() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0ortolan-" + os.urandom(8).hex())
        listening.settimeout(TIMEOUT_S)
        ServiceManager("@" + listening.getsockname()[1:].decode()).loading()
        assert listening.recv(4096) == b"STATUS=loading models"


async def test_a_watchdog_hears_of_the_loop_again_and_again(manager: socket.socket) -> None:
    beating = asyncio.create_task(ServiceManager(manager.getsockname(), watchdog_s=0.02).keep_alive())
    beats = [await asyncio.to_thread(manager.recv, 4096) for _ in range(3)]
    beating.cancel()
    assert beats == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    ("environment", "beats"),
    [
        ({"WATCHDOG_USEC": "20000"}, True),
        ({"WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, False),  # meant for another process
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
)
async def test_who_wants_no_beats_hears_none(manager: socket.socket, environment: dict[str, str], beats: bool) -> None:
    service = service_manager({"NOTIFY_SOCKET": manager.getsockname(), **environment})
    beating = asyncio.create_task(service.keep_alive())
    if beats:
        assert await asyncio.to_thread(manager.recv, 4096) == b"WATCHDOG=1"
        beating.cancel()
    else:
        await asyncio.wait_for(beating, TIMEOUT_S)


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-is-there", "x" * 300])
def test_a_manager_that_is_not_there_changes_nothing(address: str) -> None:
    service = ServiceManager(address)
    service.loading()
    service.ready("serving")
    service.stopping()


def test_a_manager_that_does_not_read_is_given_up(manager: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
        filling.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while filling.sendto(b"x", manager.getsockname()):
                pass
    ServiceManager(manager.getsockname()).stopping()
    assert manager.recv(4096) == b"x"
