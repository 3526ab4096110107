"""A server and what it logs."""

from dataclasses import dataclass
from pathlib import Path

from server_process import ServerProcess


@dataclass(frozen=True)
class Served:
    """``log`` is the file that its log goes to."""

    server: ServerProcess
    log: Path
