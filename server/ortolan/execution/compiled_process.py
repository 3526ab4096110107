"""Compiling a model in a process of its own, so that neither its work nor its crash is the server's."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import ortolan
from ortolan.execution.compiled_entry import is_described, write_refusal
from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_maker import NOT_WRITTEN
from ortolan.execution.compiled_making import SURVIVED

# What the model's own code did, as opposed to somebody who ended the process.
_CRASHES = frozenset(
    getattr(signal, name).value
    for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")
    if hasattr(signal, name)
)
# Where libraries are, and how text is written; nothing that is for the server alone, such as credentials.
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "VIRTUAL_ENV")
_ERRORS = "errors"
_SHOWN = 500


class Outcome(Enum):
    DESCRIBED = "described"
    """The folder has a compiled model, or says why there is none."""
    NO_ROOM = "no room"
    CRASHED = "crashed"
    """Loading or running the model as it is ended the process, as it would have ended the server."""
    FAILED = "failed"
    """Anything else; it may be better another time."""


@dataclass(frozen=True, slots=True)
class Making:
    """How it went, and what the process said."""

    outcome: Outcome
    text: str = ""


def compile_apart(job: CompileJob, environment: Mapping[str, str], limit_s: float) -> Making:
    """Compile in a process of the lowest priority, which is ended after ``limit_s``.

    Raises OSError when it cannot be started.
    """
    with (job.folder / _ERRORS).open("w+", errors="replace") as errors:
        code = _run(job, environment, limit_s, errors.fileno())
        errors.seek(0)
        text = errors.read()[-_SHOWN:].strip()
    making = _judge(job, code, text)
    for name in (SURVIVED, _ERRORS):
        (job.folder / name).unlink(missing_ok=True)
    return making


def _run(job: CompileJob, environment: Mapping[str, str], limit_s: float, errors: int) -> int | None:
    """The process' exit code; None when it took too long."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ortolan.execution.compiled_maker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=_environment(environment),
        cwd=job.folder,
        bufsize=0,
    )
    # Its input stays open: when that ends, it does.
    with process:
        try:
            if process.stdin:
                process.stdin.write(job.to_line().encode())
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        except BrokenPipeError:
            return process.wait(limit_s)
        finally:
            process.kill()


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    passed_on = {name: environment[name] for name in _PASSED_ON if name in environment}
    package = Path(ortolan.__file__).parent.parent
    return {**passed_on, "PYTHONPATH": str(package), "ORT_DISABLE_TELEMETRY": "1"}


def _judge(job: CompileJob, code: int | None, text: str) -> Making:
    if code == 0 and is_described(job.folder):
        return Making(Outcome.DESCRIBED)
    if code == NOT_WRITTEN:
        return Making(Outcome.NO_ROOM, text)
    if code is None or -code not in _CRASHES:
        return Making(Outcome.FAILED, text or f"the process ended with {code}")
    name = signal.Signals(-code).name
    if not (job.folder / SURVIVED).exists():
        return Making(Outcome.CRASHED, name)
    # It is the compiled model that breaks the runtime; without it all is well, also next time.
    write_refusal(job.folder, job.key_text, f"ONNX Runtime crashed over what it wrote ({name})")
    return Making(Outcome.DESCRIBED)
