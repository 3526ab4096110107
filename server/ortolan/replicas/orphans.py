"""Processes whose parent has ended, which the system gives to the first process of a container."""

import os


class Orphans:
    """Takes from the system those that have ended too; each would be in its table for ever.

    Who started a child waits for its end, and takes it within moments. So what is there at two looks in a row, some
    time apart, is nobody's.
    """

    def __init__(self) -> None:
        self._seen = 0

    def take_ended(self) -> None:
        """One at most in each look: the system shows the next one only when the last is gone."""
        ended = _ended_child()
        if ended and ended == self._seen:
            os.waitpid(ended, os.WNOHANG)
            ended = _ended_child()
        self._seen = ended


def _ended_child() -> int:
    """The process id of a child that has ended, which is left to who waits for it; 0 when there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0
