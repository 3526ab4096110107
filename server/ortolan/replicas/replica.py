"""The process of one replica: ``python -m ortolan.replicas.replica FD``, where FD is its end of a socket pair.

What it is told there comes first: the settings, its number, and whether others serve already.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

import uvloop

from ortolan import logs
from ortolan.errors import StartupError
from ortolan.managed_models import model_manager
from ortolan.replicas.channel import receive_now, send_now
from ortolan.replicas.member import Member
from ortolan.server import Server
from ortolan.settings import Settings, held_requests

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def main(descriptor: int) -> int:
    """The exit code: as that of a server that is alone."""
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)
    # The other one ends with the event loop.
    own_end = end.dup()
    try:
        told = receive_now(end)
    except EOFError:
        return 0
    try:
        return _serve(end, told)
    except StartupError as error:
        # People are told once, by the supervisor.
        with contextlib.suppress(OSError):
            own_end.setblocking(True)
            send_now(own_end, {"number": 0, "call": "problem", "arguments": [str(error)]})
        return 2


def _serve(end: socket.socket, told: Mapping[str, Any]) -> int:
    settings = Settings.model_validate(told["settings"])
    number = told["number"]
    process_logs = logs.set_up(settings.log_settings, number, settings.access_log_file, of_server=True)
    manager = model_manager(settings, os.environ.get(_VISIBLE_GPUS), held_requests(os.environ), os.environ)
    member = Member(end, number, told["opens_late"])
    server = Server(settings, manager, member.announce, process_logs, member, write_access=process_logs.write_access)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(server.run())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
