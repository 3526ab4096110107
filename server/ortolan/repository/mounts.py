"""Repositories that lie on volumes of their own: what is left when one is unmounted is no empty repository.

The directory on which a volume was mounted is there all the same, with nothing in it, as if somebody had removed every
model. It can be told by its file system, which is another one than that of the models.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ortolan.repository.directory import RepositoryListing

_GONE = (
    "nothing is in '{}' any more, and that is another file system than the models were on: what was mounted there is "
    "gone. What is served stays until it is there again; to empty a repository on purpose, restart the server"
)


class Mounts:
    """On which file systems the models were seen. May be used from several threads: each look stands for itself."""

    def __init__(self) -> None:
        self._devices: dict[Path, int] = {}

    def survey(self, survey: Callable[[], RepositoryListing]) -> RepositoryListing:
        """What ``survey`` finds; roots whose volume is gone are among the unreadable ones."""
        known = dict(self._devices)
        before = {root: _device(root) for root in known}
        listing = survey()
        filled = {entry.repository for entry in listing.models.values()}
        gone = {
            root: _GONE.format(root)
            for root, device in known.items()
            if root not in filled and root not in listing.unreadable and _device(root) not in (device, None)
        }
        self._remember(filled, before)
        return replace(listing, unreadable={**listing.unreadable, **gone}) if gone else listing

    def _remember(self, filled: Iterable[Path], before: dict[Path, int | None]) -> None:
        for root in filled:
            device = _device(root)
            # One that changed meanwhile is that of the models, or is not: the next look will tell.
            if device is not None and before.get(root, device) == device:
                self._devices[root] = device


def _device(path: Path) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None
