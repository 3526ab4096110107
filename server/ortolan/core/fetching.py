"""Bringing the mirrors of repositories that are elsewhere up to date, and which models could not be had."""

from collections.abc import Collection, Iterable

from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_records import Model
from ortolan.repository.directory import NAMESPACE_SEPARATOR
from ortolan.repository.sources.mirrors import Mirrors
from ortolan.repository.sources.problem import Problem

UNFETCHED = "it could not be fetched from where its repository is; the server's log says why"


class Fetching:
    """Lives on the event loop; what is fetched is fetched in threads of its own."""

    def __init__(self, mirrors: Mirrors | None, models: dict[str, Model], threads: int) -> None:
        """``models`` are all there are, as they come and go."""
        self._mirrors = mirrors
        self._models = models
        self._threads = LoadThreads(threads)  # A store that does not answer holds up no load.

    @property
    def is_needed(self) -> bool:
        """Whether any repository is elsewhere."""
        return self._mirrors is not None and self._mirrors.are_there

    async def fetch(self, names: Collection[str] | None = None) -> tuple[Problem, ...]:
        """Fetch what is new of all models, or of the named; what could not be had."""
        if self._mirrors is None or not self.is_needed:
            return ()
        own_names = None if names is None else {name.rpartition(NAMESPACE_SEPARATOR)[2] for name in names}
        return await self._threads.run(self._mirrors.refresh, own_names)

    def note_unfetched(self, problems: Iterable[Problem]) -> None:
        """Of the models of which nothing serves: that they could not be fetched."""
        for problem in problems:
            model = self._models.setdefault(problem.model, Model(problem.model))
            if model.newest is None:
                model.problem = UNFETCHED

    def stop(self) -> None:
        """End what is being fetched; what has arrived is kept and gone on with another time."""
        if self._mirrors is not None:
            self._mirrors.stop()
        self._threads.stop()
