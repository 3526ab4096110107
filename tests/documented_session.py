"""A page of the documentation as its reader tries it: all its blocks, one after another, in one session of bash.

The session is in a directory that looks like a checkout. What differs from the reader's is said here: ports are free
ones, ``/tmp`` is a directory of the session, ``ortolan serve`` goes to the background as if in a terminal of its own
and ends when the next one starts, ``make serve`` is that, other targets of make are only looked up, and what pip is to
install must be one of our extras, or be installed already.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from documented_pages import ROOT, RUN, Block, blocks

TIMEOUT_S = 280
"""So that a machine that does other things as well is late, and not wrong."""
_DOCUMENTED_PORTS = ("8000", "8001", "8002", "8080", "9000", "9001", "9002")
_PORT = re.compile(rf"(?<![\w.-])({'|'.join(_DOCUMENTED_PORTS)})(?![\w.])")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_PREAMBLE = (Path(__file__).parent / "documented_session.sh").read_text()


class Session:
    """Blocks of ``page`` that are run in ``directory``; ``printed`` is what each printed, by its line."""

    def __init__(self, page: str, directory: Path) -> None:
        self._directory = directory
        self._checkout = directory / "checkout"
        self._blocks = [block for block in blocks(page) if not block.reason_not_to_run]
        self._ports = dict(zip(_DOCUMENTED_PORTS, _free_ports(len(_DOCUMENTED_PORTS)), strict=True))
        _lay_out(self._checkout)
        for name in ("home", "tmp", "printed"):
            (directory / name).mkdir()

    def run(self) -> None:
        """Run all. AssertionError with the place of the block that failed, and what it said."""
        script = self._directory / "session.sh"
        script.write_text("\n".join([_PREAMBLE, *map(self._step, self._blocks)]))
        told = self._directory / "told"
        with open(told, "w") as output:
            done = subprocess.run(
                ["bash", script], cwd=self._checkout, env=self._environment(), stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        assert done.returncode == 0, f"{self._failed()} failed:\n{told.read_text()[-6000:]}\n{self._log()}"

    def differences(self) -> list[str]:
        """The places of documented outputs that did not come, with what came."""
        wrong = []
        before: Block | None = None
        for block in self._blocks:
            before = block if block.language in RUN and not block.file else before
            if before is not None and (block.is_output or block.language == "console"):
                came = (self._directory / "printed" / str(before.line)).read_text()
                if not is_printed(block.printed, came):
                    wrong.append(f"{block.place}: came\n{came}")
        return wrong

    def _step(self, block: Block) -> str:
        code = self._rewritten(block.commands)
        if block.file:
            return f"mkdir -p \"$(dirname '{block.file}')\"\ncat > '{block.file}' <<'END OF FILE'\n{code}END OF FILE"
        printed = self._directory / "printed" / str(block.line)
        begin = f"echo '{block.place}' > {self._directory}/reached; date +%s.%N:{block.line} >> {self._directory}/times"
        begin = f"{begin}\n{self._rewritten(block.before)}"
        if block.language == "bash":
            return f"{begin}\n{{\n{code}\n}} > {printed}\ncat {printed}"
        if block.language == "console":
            # As on a terminal, where the next command may be typed after one that failed.
            return f"{begin}\nset +e\n{{\n{code}\n}} > {printed} 2>&1\nset -e\ncat {printed}"
        if block.language == "python":
            return f"{begin}\npython - > {printed} <<'END OF FILE'\n{code}END OF FILE\ncat {printed}"
        return ""

    def _rewritten(self, code: str) -> str:
        with_ports = _PORT.sub(lambda found: str(self._ports[found[1]]), code)
        return with_ports.replace("/tmp/", f"{self._directory}/tmp/")  # noqa: S108 - of the reader's machine

    def _environment(self) -> dict[str, str]:
        http, grpc, metrics = (str(self._ports[port]) for port in _DOCUMENTED_PORTS[:3])
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ORTOLAN_", "PYTEST"))}
        return own | {
            "SESSION": str(self._directory),
            "TESTS": str(Path(__file__).parent),
            "PYTHON": sys.executable,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(self._directory / "home"),
            # What was measured of models is not measured anew by each page.
            "XDG_CACHE_HOME": str(self._directory.parent / "cache"),
            "TMPDIR": str(self._directory / "tmp"),
            "ORTOLAN_HTTP_PORT": http,
            "ORTOLAN_GRPC_PORT": grpc,
            "ORTOLAN_METRICS_PORT": metrics,
            "ORTOLAN_DRAIN_DELAY_SECS": "0",
            "ORTOLAN_HTTP_URL": f"http://127.0.0.1:{http}",
            "ORTOLAN_GRPC_URL": f"127.0.0.1:{grpc}",
        }

    def _failed(self) -> str:
        reached = self._directory / "reached"
        return reached.read_text().strip() if reached.exists() else "the beginning"

    def _log(self) -> str:
        logs = sorted(self._directory.glob("server.*"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)


def is_printed(documented: str, came: str) -> bool:
    """Whether the lines are among those that came, in their order. Numbers may be others; … stands for anything."""
    left: Iterator[str] = iter(came.splitlines())
    return all(any(_pattern(line).fullmatch(_plain(other)) for other in left) for line in _lines(documented))


def _lines(documented: str) -> list[str]:
    return [line for line in documented.splitlines() if line.strip() not in ("", "…")]


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, _plain(line).split("…"))))


def _plain(line: str) -> str:
    return _NUMBER.sub("0", " ".join(line.split()))


def _lay_out(checkout: Path) -> None:
    """What is in the project's root, where what a reader might write to is a copy."""
    checkout.mkdir()
    for path in ROOT.iterdir():
        if path.name == "model_repo":
            shutil.copytree(path, checkout / path.name)
        elif not path.name.startswith(".") or path.name == ".ci":
            (checkout / path.name).symlink_to(path)


def _free_ports(count: int) -> list[int]:
    """All different, and free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
