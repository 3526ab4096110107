"""Keeps ensembles in step with the models that they are made of: looks at them again whenever one of those changes.

An ensemble is bound to versions of its models. When one is replaced, the ensemble is bound anew and then replaced
itself, as if its own files had changed; when one is unloaded, so is the ensemble. Lives on the event loop.
"""

from collections.abc import Mapping
from dataclasses import replace

from ortolan.core import ensemble_dependencies as dependencies
from ortolan.core.ensemble_graph import graph_of
from ortolan.core.ensemble_loader import EnsembleLoader
from ortolan.core.model_records import UNLOADED, Candidate, Model
from ortolan.core.version_changes import VersionChanges
from ortolan.errors import InvalidArgument
from ortolan.repository.directory import NAMESPACE_SEPARATOR, RepositoryListing
from ortolan.repository.model_config import ModelConfig
from ortolan.repository.model_directory import ModelEntry


class Ensembles:
    """What of the manager's models is made of others."""

    def __init__(self, models: Mapping[str, Model], loader: EnsembleLoader, changes: VersionChanges) -> None:
        """``models`` are all there are, as they come and go."""
        self._models = models
        self._loader = loader
        self._changes = changes

    async def reconcile(self, model: Model, wanted: Mapping[int, Candidate]) -> None:
        """As ``VersionChanges.reconcile``; who calls holds the model's lock. An ensemble is looked at again later."""
        model.lost = False
        model.ensemble = {number: candidate for number, candidate in wanted.items() if candidate.steps}
        await self._changes.reconcile(model, self._bound(wanted))

    async def follow(self, name: str) -> None:
        """Look again at each ensemble that needs the model ``name``, which may have changed."""
        for ensemble in dependencies.dependents(name, self._uses()):
            # While another one was looked at, this one may have been unloaded and forgotten.
            if model := self._models.get(ensemble):
                async with model.lock:
                    await self._look_again(model)

    def check(self, model: Model, config: ModelConfig) -> None:
        """Raises InvalidArgument for an ensemble that makes no sense by itself, or needs itself."""
        if not config.is_ensemble:
            return
        graph_of(config)
        if way := dependencies.circle(model.name, self._uses()):
            raise InvalidArgument(f"circular dependency between ensembles: {' -> '.join(way)}")

    def unneeded(self, name: str) -> tuple[str, ...]:
        """The models to unload with ``name``, because they were loaded only for ensembles that are gone then."""
        asked = {model.name for model in self._models.values() if model.asked}
        loaded = [model.name for model in self._models.values() if model.ensemble]
        return dependencies.unneeded(name, self._uses(), asked, loaded)

    def _uses(self) -> dependencies.Uses:
        return {model.name: model.uses for model in self._models.values() if model.uses}

    async def _look_again(self, model: Model) -> None:
        missing = next((text for each in model.ensemble.values() if (text := self._loader.missing(each))), "")
        if missing:
            model.lost = not any(map(self._was_dismissed, model.uses))
            self._changes.withdraw(model, f"{UNLOADED}: {missing}")
        elif model.ensemble:
            model.lost = False
            await self._changes.reconcile(model, self._bound(model.ensemble))

    def _was_dismissed(self, name: str) -> bool:
        """Whether the model ``name`` is not there because somebody had it unloaded, or a model that it needs."""
        model = self._models.get(name)
        if model is None:
            return True  # A client had sent it and had it unloaded: the others are remembered.
        return model.newest is None and (model.dismissed or (bool(model.ensemble) and not model.lost))

    def _bound(self, wanted: Mapping[int, Candidate]) -> Mapping[int, Candidate]:
        return {
            number: replace(candidate, bound_to=self._loader.identities(candidate)) if candidate.steps else candidate
            for number, candidate in wanted.items()
        }


def step_models(config: ModelConfig, entry: ModelEntry, listing: RepositoryListing) -> tuple[str, ...]:
    """The names of the models of the steps: where namespaces part them, one in the ensemble's own repository first."""
    return tuple(_full_name(step.model_name, entry, listing) for step in config.ensemble_steps)


def _full_name(name: str, entry: ModelEntry, listing: RepositoryListing) -> str:
    own = f"{entry.namespace or entry.repository.name}{NAMESPACE_SEPARATOR}{name}"
    return own if own in listing.models else name
