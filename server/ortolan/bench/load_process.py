"""A process of its own for the load generator, so that it waits for nobody and its CPU time can be told apart."""

import contextlib
import gc
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType

from ortolan.bench.load import Load, Outcome
from ortolan.bench.load_generator import generated
from ortolan.errors import StartupError
from ortolan.execution.timer_slack import wake_exactly

_SLACK_S = 30.0
_STOP_S = 5.0


class LoadProcess:
    """Starts with ``with``; runs one load after the other.

    ``slack_s``: how much longer than its load the process may take, its start included.
    """

    def __init__(self, slack_s: float = _SLACK_S) -> None:
        self._slack_s = slack_s

    def __enter__(self) -> "LoadProcess":
        self._start()
        return self

    def _start(self) -> None:
        # Not forked: a copy of the parent's threads and locks could hang.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_generate, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(_STOP_S)
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()

    def outcome(self, load: Load) -> Outcome:
        """What comes of ``load``. Raises StartupError when the server cannot be talked to."""
        self._pipe.send(load)
        if not self._pipe.poll(load.warm_up_s + load.seconds + load.patience_s + self._slack_s):
            # What it may still say would be taken for the next load's outcome, and its requests would disturb that.
            self._pipe.close()
            self._end()
            self._start()
            raise StartupError("the load generator has not answered in time; is this machine overloaded?")
        try:
            found = self._pipe.recv()
        except EOFError:
            raise StartupError("the load generator's process has ended") from None
        if isinstance(found, Outcome):
            return found
        raise StartupError(f"{load.address} cannot be measured: {found}")


def _generate(pipe: Connection) -> None:
    wake_exactly()
    # Nothing here makes cycles that would have to be collected.
    gc.disable()
    # The parent closes its end, or is interrupted together with this process.
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            load = pipe.recv()
            try:
                found: Outcome | str = generated(load)
            except (OSError, ValueError) as error:
                found = str(error)
            pipe.send(found)
            gc.collect()
