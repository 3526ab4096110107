"""Python in another process, for what may crash or hang: libraries, and models."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Ended(NamedTuple):
    """``code`` is below zero after a signal, and None when the time was over."""

    code: int | None
    out: str
    err: str

    @property
    def how(self) -> str:
        if self.code is None:
            return "took too long"
        return f"was ended by signal {-self.code}" if self.code < 0 else f"ended with {self.code}"


def run(arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> Ended:
    """``python`` with ``arguments``, to its end or for so long."""
    process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Ended(None, out, err)
    except BaseException:
        process.kill()
        process.communicate()
        raise
