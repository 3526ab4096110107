"""``ortolan serve`` in an interpreter that is set otherwise, for ``interpreter_care.py``.

Called with the variant as JSON and then a whole command line, of which only what follows ``ortolan`` counts.
"""

import gc
import json
import sys
import time
from pathlib import Path

from ortolan.cli import main


class Pauses:
    """CPU time of each collection since the server began to serve, by generation: what holds up all threads."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {}
        self._start = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget what was before."""
        self.seconds = {0: [], 1: [], 2: []}

    def __call__(self, phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            self._start = time.thread_time()
        else:
            self.seconds[about["generation"]].append(time.thread_time() - self._start)


def set_up(variant: dict[str, object], pauses: Pauses) -> None:
    """``freeze``, ``gc``: false turns them off; ``threshold``: of the youngest generation; ``switch_interval_s``.

    ``pauses``: the file that tells in the end how long collections took.
    """
    freeze = gc.freeze if variant.get("freeze", True) else lambda: None

    def freeze_and_begin() -> None:
        freeze()
        pauses.begin()

    gc.callbacks.append(pauses)
    # The server calls it once, when it has its parts and before it serves.
    gc.freeze = freeze_and_begin
    if not variant.get("gc", True):
        gc.disable()
    if "threshold" in variant:
        gc.set_threshold(int(str(variant["threshold"])), 10, 10)
    if "switch_interval_s" in variant:
        sys.setswitchinterval(float(str(variant["switch_interval_s"])))


def run() -> int:
    variant = json.loads(sys.argv[1])
    pauses = Pauses()
    set_up(variant, pauses)
    try:
        return main(sys.argv[sys.argv.index("ortolan") + 1 :])
    finally:
        Path(variant["pauses"]).write_text(json.dumps(pauses.seconds))


if __name__ == "__main__":
    raise SystemExit(run())
