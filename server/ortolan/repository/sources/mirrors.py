"""The model repositories of one server: directories as they are, and mirrors of those that are elsewhere."""

import hashlib
import logging
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ortolan.errors import StartupError
from ortolan.repository.sources.problem import Problem

if TYPE_CHECKING:
    from ortolan.repository.sources.mirror import Mirror
    from ortolan.repository.sources.source_address import SourceAddress

_log = logging.getLogger(__name__)

_MOUNT_VARIABLES = {
    "s3": "TRITON_AWS_MOUNT_DIRECTORY",
    "gs": "TRITON_GCS_MOUNT_DIRECTORY",
    "az": "TRITON_AZURE_MOUNT_DIRECTORY",
    "as": "TRITON_AZURE_MOUNT_DIRECTORY",
}
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


class Mirrors:
    """Every repository that was named, in that order."""

    def __init__(
        self,
        repositories: Sequence[str],
        environment: Mapping[str, str],
        directory: Path | None = None,
        concurrency: int = 4,
    ) -> None:
        """``repositories`` are paths and addresses; ``concurrency`` is how many files are fetched at once.

        Mirrors go below ``directory``; without one, to where Triton's variables say, or to the user's cache. Raises
        StartupError for addresses that are none, and for what is missing to use them.
        """
        self._environment = environment
        self._directory = directory
        self._concurrency = concurrency
        self._stopping = threading.Event()
        self._mirrors: list[Mirror] = []
        self._lock = threading.Lock()
        self._told: frozenset[Problem] = frozenset()
        self.roots: tuple[Path, ...] = tuple(self._root(text) for text in dict.fromkeys(repositories))

    @property
    def are_there(self) -> bool:
        """Whether any repository is elsewhere."""
        return bool(self._mirrors)

    def refresh(self, chosen: Collection[str] | None = None) -> tuple[Problem, ...]:
        """Bring every mirror up to date, see ``Mirror.refresh``; problems are logged when they are new.

        Blocks as long as that takes.
        """
        if not self._mirrors:
            return ()
        with ThreadPoolExecutor(len(self._mirrors), thread_name_prefix="mirror") as pool:
            outcomes = pool.map(lambda mirror: mirror.refresh(chosen), self._mirrors)
            problems = tuple(problem for found in outcomes for problem in found)
        self._tell(problems)
        return problems

    def stop(self) -> None:
        """End what is being fetched; what has arrived is kept and gone on with another time."""
        self._stopping.set()

    def _tell(self, problems: Sequence[Problem]) -> None:
        with self._lock:
            before, self._told = self._told, frozenset(problems)
        for problem in dict.fromkeys(problems):
            if problem not in before:
                _log.error("%s", problem.message)
        if before and not problems:
            _log.info("all of the model repository can be fetched again")

    def _root(self, text: str) -> Path:
        if "://" not in text:
            return Path(text)
        # Most servers need none of this; it would cost every start some hundredths of a second.
        from ortolan.repository.sources.mirror import Mirror
        from ortolan.repository.sources.mirror_files import MirrorFiles
        from ortolan.repository.sources.opening import open_source
        from ortolan.repository.sources.source_address import parse_address

        address = parse_address(text)
        if address is None:
            return Path(text)
        source = open_source(address, self._environment, self._stopping)
        files = MirrorFiles(self._home(address), address.name)
        if any(files.root == other.root for other in self._mirrors):
            raise StartupError(f"{address.shown} is given twice, with different queries or hashes: leave one out")
        self._mirrors.append(Mirror(source, address.shown, files, self._concurrency, self._stopping))
        return files.root

    def _home(self, address: "SourceAddress") -> Path:
        """A directory of its own for each address, whose name shows which."""
        # A signed URL is the same file tomorrow with another signature.
        identity = hashlib.sha256(address.shown.encode()).hexdigest()[:12]
        scheme, _, place = address.shown.partition("://")
        return self._parent(address).absolute() / f"{scheme}-{_NO_NAME.sub('-', place).strip('-.')[:80]}-{identity}"

    def _parent(self, address: "SourceAddress") -> Path:
        if self._directory is not None:
            return self._directory
        if mount := self._environment.get(_MOUNT_VARIABLES.get(address.shown.partition("://")[0], "")):
            return Path(mount)
        cache = self._environment.get("XDG_CACHE_HOME")
        home = Path(self._environment.get("HOME") or "~").expanduser()
        return (Path(cache) if cache else home / ".cache") / "ortolan" / "models"
