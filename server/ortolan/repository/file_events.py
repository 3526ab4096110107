"""Tells at once that something in the model repository changed, where the operating system tells of such events.

It tells no more than that: what changed is for the next walk to find. Network file systems tell nothing of what other
machines do, and a system may run out of watches, so whoever listens looks from time to time all the same.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

# How long the thread sleeps between two looks at whether it is to end; and what a burst of events may add to that.
_STEP_MS = 100
_BURST_MS = 200
_MOST_LINKS = 40


class FileEvents:
    """Threads that wait for events below the repository's roots, and for others to take the roots' places."""

    def __init__(self, roots: Sequence[Path], on_change: Callable[[], None]) -> None:
        """``on_change`` is called from a thread. A root that is not there yet is told of when it comes."""
        self._roots = [Path(os.path.abspath(root)) for root in roots]
        self._on_change = on_change
        self._stop = threading.Event()
        self.lacks_roots = False
        """Whether a root was not there at the start, so that nothing below it is told of."""

    def start(self) -> None:
        """Begin to wait; returns before the first event can be told."""
        names = {place for root in self._roots for place in places(root)}
        there = [root for root in self._roots if root.exists()]
        self.lacks_roots = len(there) < len(self._roots)
        self._begin(there, None)
        self._begin({place.parent for place in names if place.parent.is_dir()}, names)

    def stop(self) -> None:
        """End the threads, soon; what was told already may still be under way."""
        self._stop.set()

    def _begin(self, watched: Collection[Path], names: Collection[Path] | None) -> None:
        if watched:
            arguments = (sorted(watched), names)
            threading.Thread(target=self._wait, args=arguments, name="repository events", daemon=True).start()

    def _wait(self, watched: Collection[Path], names: Collection[Path] | None) -> None:
        """Tell of events below the directories ``watched``; if ``names`` are given, of those entries only."""
        from watchfiles import watch  # takes 40 ms, which only servers spend that follow their repository

        found = None if names is None else {os.fspath(name) for name in names}
        try:
            for _ in watch(
                *watched,
                watch_filter=None if found is None else lambda _, path: path in found,
                debounce=_BURST_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                raise_interrupt=False,
                force_polling=False,
                recursive=found is None,
                ignore_permission_denied=True,
            ):
                self._on_change()
        # Not there any more, out of watches, or a system without events: the timed looks go on.
        except (OSError, RuntimeError) as error:
            _log.info("no file events from the model repository, which is looked at from time to time: %s", error)


def places(root: Path) -> Iterator[Path]:
    """Directory entries whose exchange puts something else at ``root``: itself, and the symbolic links on the way."""
    yield root
    todo, seen = [root], {root}
    while todo and len(seen) <= _MOST_LINKS:
        path = todo.pop()
        for part in (path, *path.parents):
            if part.is_symlink():
                yield part
                target = Path(os.path.normpath(part.parent / os.readlink(part))) / path.relative_to(part)
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
                break
