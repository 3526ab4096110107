"""Keeps a local directory as a remote source is, so that it is read like any other model repository."""

import logging
import re
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from ortolan.inference.printable import printable
from ortolan.repository.sources.download import Downloads, Fetched
from ortolan.repository.sources.mirror_files import MirrorFiles
from ortolan.repository.sources.mirror_plan import Group, empty_versions, plan, usable
from ortolan.repository.sources.problem import Problem
from ortolan.repository.sources.progress import Progress, bytes_shown
from ortolan.repository.sources.remote_file import RemoteFile, Source, SourceFailure

_log = logging.getLogger(__name__)

_LARGEST_CONFIG_BYTES = 1 << 20
_STEP = re.compile(rb'\bmodel_name\s*:\s*"([^"\\\n]+)"')


class Mirror:
    """Of one source. Its methods may be called from any thread, of several processes."""

    def __init__(
        self, source: Source, shown: str, files: MirrorFiles, concurrency: int, stopping: threading.Event
    ) -> None:
        """``shown`` is the source's address, ``concurrency`` how many files are fetched at once."""
        self.root = files.root
        self._source = source
        self._shown = shown
        self._files = files
        self._concurrency = concurrency
        self._stopping = stopping
        self._warnings: frozenset[str] = frozenset()

    def refresh(self, chosen: Collection[str] | None = None) -> tuple[Problem, ...]:
        """Fetch what is new or other, remove what is gone.

        Where models are ``chosen``, only those are fetched, and those of which they are made as ensembles. What cannot
        be had is left as it was. Returns why, and raises nothing that is due to the source or the disk.
        """
        try:
            with self._files.exclusively(self._stopping):
                return self._refresh(chosen)
        except SourceFailure as failure:
            return (Problem(str(failure), self.root),)
        except OSError as error:
            return (Problem(self._not_written(error), self.root),)

    def _refresh(self, chosen: Collection[str] | None) -> tuple[Problem, ...]:
        listing = self._source.listing()
        files, warnings = usable(listing.files)
        self._warn(warnings)
        if listing.is_single:
            self._files.be_file()
            return self._follow(plan(files, self._files.present()).groups)
        self._files.be_directory()
        return self._follow_chosen(files, chosen, empty_versions(listing, files))

    def _follow_chosen(
        self, files: Sequence[RemoteFile], chosen: Collection[str] | None, empty: Sequence[str]
    ) -> tuple[Problem, ...]:
        steps = plan(files, self._files.present(), chosen, empty)
        for version in steps.placeholders:
            self._files.make_version(version)
        problems = self._follow(steps.groups)
        if problems:
            return problems
        further = self._models_in(chosen) - set(chosen) if chosen is not None else ()
        if chosen is not None and further:
            return self._follow_chosen(files, {*chosen, *further}, empty)
        self._files.remove_empty_versions(steps.placeholders)
        return ()

    def _models_in(self, chosen: Collection[str]) -> set[str]:
        """The models that the configurations of the models ``chosen`` name."""
        found: set[str] = set()
        for name in chosen:
            path = self.root / name / "config.pbtxt"
            if path.is_file():
                with path.open("rb") as file:
                    found |= {step.decode(errors="replace") for step in _STEP.findall(file.read(_LARGEST_CONFIG_BYTES))}
        return found

    def _follow(self, groups: Sequence[Group]) -> tuple[Problem, ...]:
        wanted = [file for group in groups for file in group.fetch]
        self._make_room(wanted)
        sizes = [file.size_bytes for file in wanted]
        progress = Progress(self._shown, len(wanted), None if None in sizes else sum(filter(None, sizes)))
        problems: list[Problem] = []
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="download") as pool:
            running = [(group, [pool.submit(self._fetch, file, progress) for file in group.fetch]) for group in groups]
            for group, downloads in running:
                problems += self._change(group, [download.result() for download in downloads])
        progress.end()
        if not problems:
            self._files.remove_partial()
        return tuple(problems)

    def _fetch(self, file: RemoteFile, progress: Progress) -> Fetched | str:
        """The file, or why it could not be had."""
        try:
            downloads = Downloads(self._source, self._files.partial, self._stopping)
            return downloads.fetch(file, progress.add, self._files.tags_are_hashes)
        except SourceFailure as failure:
            return f"{self._shown}: '{printable(file.path, 200)}' could not be fetched: {failure}"
        except OSError as error:
            return self._not_written(error)

    def _change(self, group: Group, outcomes: Sequence[Fetched | str]) -> list[Problem]:
        """Bring the group to its new state if all of its files are there, else leave it as it was."""
        problems = [Problem(outcome, self.root, group.name) for outcome in outcomes if isinstance(outcome, str)]
        if not problems:
            self._files.change([outcome for outcome in outcomes if isinstance(outcome, Fetched)], group.remove)
        return problems

    def _make_room(self, wanted: Sequence[RemoteFile]) -> None:
        """Raises SourceFailure when there is clearly not enough space for what is to come."""
        if wanted:
            self._files.partial.mkdir(exist_ok=True)
        needed, free = sum(file.size_bytes or 0 for file in wanted), self._files.free_bytes()
        if needed > free:
            raise SourceFailure(
                f"{self._shown}: there is no room for the download: {bytes_shown(needed)} are needed and "
                f"{bytes_shown(free)} free; --download-directory says where it goes"
            )

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            if warning not in self._warnings:
                _log.warning("%s: %s", self._shown, warning)
        self._warnings = frozenset(warnings)

    def _not_written(self, error: OSError) -> str:
        return f"the mirror of {self._shown} cannot be written: {error.strerror or type(error).__name__}"
