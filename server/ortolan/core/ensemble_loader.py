"""From the configuration of an ensemble to a version of it that is bound to the models that are loaded now."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ortolan.core.checked_files import FileRules, checks_of, private_companions
from ortolan.core.ensemble_dependencies import missing_step
from ortolan.core.ensemble_graph import EnsembleGraph, check_models, graph_of
from ortolan.core.ensemble_trial import EnsembleTrial
from ortolan.core.ensemble_version import EnsembleVersion
from ortolan.core.load_threads import LoadThreads
from ortolan.core.model_records import Candidate, Model
from ortolan.core.response_cache import ResponseCache
from ortolan.core.served_version import ServedVersion
from ortolan.errors import InvalidArgument
from ortolan.execution.detailed_statistics import DetailOptions
from ortolan.repository.file_checks import FileChecks
from ortolan.repository.golden_files import golden_place
from ortolan.repository.label_file import read_labels
from ortolan.repository.model_config import NEWEST_VERSION

Labels = Mapping[str, tuple[str, ...]]


class EnsembleLoader:
    """Loads ensembles. Lives on the event loop."""

    def __init__(
        self,
        models: Mapping[str, Model],
        load_threads: LoadThreads,
        cache: ResponseCache | None,
        rules: FileRules,
        detail: DetailOptions = DetailOptions(),  # noqa: B008 - frozen
    ) -> None:
        """``models`` are all there are, as they come and go; ``detail``: what is counted of each request."""
        self._detail = detail
        self._rules = rules
        self._models = models
        self._load_threads = load_threads
        self._cache = cache

    def missing(self, candidate: Candidate) -> str:
        """Which of its models is not loaded, in a sentence; "" when all are."""
        loaded = {
            name: [v.number for v in self._models[name].serving()] for name in candidate.steps if name in self._models
        }
        return missing_step(candidate.config, candidate.steps, loaded)

    def identities(self, candidate: Candidate) -> tuple[object, ...]:
        """Those of the versions that its steps would be bound to now; None for one that is not loaded."""
        return tuple(None if version is None else version.identity for version in self._bound(candidate))

    async def load(self, candidate: Candidate) -> EnsembleVersion:
        """A version that holds its models.

        Raises InvalidArgument when a model is missing, does not fit, or does not give the ensemble's golden answers.
        """
        start_ns = time.monotonic_ns()
        config = candidate.config
        graph = graph_of(config)
        checks, own = await self._load_threads.run(_own_files, candidate, self._rules)
        # From here to the start of the trial nothing waits, so the models that are found are not retired before.
        if missing := self.missing(candidate):
            raise InvalidArgument(missing)
        models = [version for version in self._bound(candidate) if version is not None]
        check_models(graph, config, [model.signature for model in models])
        number, labels = candidate.version.number, {**_inherited_labels(graph, models), **own}
        trial = EnsembleVersion(number, config, graph, models, labels)
        trial.start()
        try:
            place = golden_place(candidate.entry, candidate.version.directory)
            await EnsembleTrial(place, self._rules.golden, checks.check, self._load_threads).run(trial)
            # A model may have been unloaded meanwhile; one that was replaced has the ensemble looked at again.
            if missing := self.missing(candidate):
                raise InvalidArgument(missing)
            duration_ns = time.monotonic_ns() - start_ns
            counts = self._detail.statistics(config.first_response_bounds_ms)
            version = EnsembleVersion(number, config, graph, models, labels, duration_ns, self._cache, counts)
            # It takes over from the trial, so that its models have somebody who holds them all the time.
            version.start()
            return version
        finally:
            trial.refuse_new()

    def _bound(self, candidate: Candidate) -> Sequence[ServedVersion | None]:
        return [
            self._version(name, step.model_version)
            for name, step in zip(candidate.steps, candidate.config.ensemble_steps, strict=True)
        ]

    def _version(self, name: str, number: int) -> ServedVersion | None:
        model = self._models.get(name)
        if model is None:
            return None
        if number == NEWEST_VERSION:
            return model.newest
        record = model.versions.get(number)
        return None if record is None else record.serving


def _own_files(candidate: Candidate, rules: FileRules) -> tuple[FileChecks, Labels]:
    """What its files are compared with, and the labels in them. Raises InvalidArgument for one that is not right."""
    entry, config = candidate.entry, candidate.config
    checks = checks_of(entry, config, candidate.version.directory, None, rules)
    with private_companions(entry, config, checks, rules.directories) as companions:
        checked = replace(entry, directory=companions.directory)
        labelled = [output for output in config.outputs if output.label_filename]
        return checks, {output.name: read_labels(checked, output.label_filename) for output in labelled}


def _inherited_labels(graph: EnsembleGraph, models: Sequence[ServedVersion]) -> Labels:
    """The labels of each tensor that a model gives which has labels for it."""
    found: dict[str, tuple[str, ...]] = {}
    for step, model in zip(graph.steps, models, strict=True):
        for theirs, ours in step.output_map.items():
            if theirs in model.labels:
                found[ours] = model.labels[theirs]
    return found
