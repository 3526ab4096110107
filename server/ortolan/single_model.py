"""One model's directory, loaded to see what its configuration comes to; an ensemble with the models beside it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ortolan.core.model_loader import read_config
from ortolan.errors import OrtolanError, StartupError
from ortolan.managed_models import model_manager
from ortolan.repository.directory import walk
from ortolan.repository.model_config import ModelConfig
from ortolan.settings import Settings

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class SingleModel:
    """What became of the model, and why it cannot be served, or models of its steps cannot: reasons by name.

    ``config`` leaves nothing open where the model can be served. Otherwise it is what file and graph say, as far as
    they can be read; None where the file cannot.
    """

    config: ModelConfig | None
    failures: Mapping[str, list[str]]


async def load_single_model(settings: Settings, environment: Mapping[str, str]) -> SingleModel:
    """Load the one model that ``settings`` name, and unload it.

    Raises StartupError when there is no model, or several.
    """
    ensemble = _ensemble_directory(settings)
    if ensemble is not None:
        settings = settings.model_copy(update={"model_repository": (str(ensemble.parent),), "model_name": ""})
    manager = model_manager(settings, environment.get(_VISIBLE_GPUS), environment=environment)
    try:
        await manager.load_all(None if ensemble is None else [ensemble.name])
        names = manager.names() if ensemble is None else [ensemble.name]
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise StartupError(f"ortolan config takes the directory of one model; the models found are: {found}")
        failures = manager.failures()
        if failures:
            return SingleModel(await asyncio.to_thread(manager.config_as_known, names[0]), failures)
        return SingleModel(manager.find(names[0], "").config, {})
    finally:
        await manager.stop()


def _ensemble_directory(settings: Settings) -> Path | None:
    """The directory of an ensemble, if that is what ``settings`` name: its models are in the same repository."""
    paths = [Path(path).absolute() for path in settings.model_repository if "://" not in path]
    if len(paths) != 1 or len(settings.model_repository) != 1:
        return None
    try:
        entries = list(walk(paths, config_name=settings.model_config_name).models.values())
        own = len(entries) == 1 and entries[0].directory == paths[0]
        return paths[0] if own and read_config(entries[0]).is_ensemble else None
    except (OrtolanError, StartupError):
        return None  # It is loaded like any model, which tells what is wrong with it.
