"""A process that compiles one model: ``python -m ortolan.execution.compiled_maker``, told by a line on its input.

Beside a server that answers requests it only gets the processor when nobody else wants it. It ends with its server,
because its input does.
"""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

LOWEST_PRIORITY = 19
REFUSED, NOT_WRITTEN, LEFT_ALONE = 2, 3, 4
"""How it ends when the model cannot be loaded, when the disk does not take it, and when its server has gone."""


def main() -> int:
    _stand_back()
    # Imported only now, so that this does not take the processor from others either.
    from ortolan.errors import OrtolanError
    from ortolan.execution.compiled_job import CompileJob
    from ortolan.execution.compiled_making import make

    job = CompileJob.from_line(sys.stdin.readline())
    threading.Thread(target=_end_with_server, args=(job.folder,), daemon=True).start()
    try:
        make(job)
    except OrtolanError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 -- the server reads it
        return REFUSED
    except OSError as error:
        print(error.strerror, file=sys.stderr)  # noqa: T201
        return NOT_WRITTEN
    return 0


def _stand_back() -> None:
    """Be the last to get the processor, and the first to go when memory runs out."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(LOWEST_PRIORITY)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_server(folder: Path) -> None:
    # Not by sys.stdin: Python aborts when it ends while a thread is inside that.
    while os.read(0, 1024):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(LEFT_ALONE)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # What the runtime would do on its way out no longer matters.
    os._exit(code)
