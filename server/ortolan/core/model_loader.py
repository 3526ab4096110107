"""From a directory of the repository to a loaded version. Blocking: runs in the loading threads.

What a load may need of the machine and of the operator's choices comes in as one ``LoadingOptions``; nothing here
knows of the event loop, of other models or of which versions are wanted.
"""

import time
from dataclasses import dataclass, replace

from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument
from ortolan.execution.devices import DeviceInventory, Placement, places_of, require_device
from ortolan.execution.model_mending import open_session
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings, settings_of
from ortolan.repository import config_completion, config_file, model_directory, version_policy
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.label_file import read_labels
from ortolan.repository.model_config import InstanceKind, ModelConfig
from ortolan.repository.model_directory import ModelEntry, VersionEntry


@dataclass(frozen=True, slots=True)
class LoadingOptions:
    """What the operator and the machine decide for every model."""

    inventory: DeviceInventory
    device: str = "auto"
    default_max_batch_size: int = 4
    complete_configs: bool = True
    intra_op_threads: int = 1
    allow_fallback: bool = False

    @property
    def defaults(self) -> CompletionDefaults:
        gpus = self.inventory.usable_gpus
        # Intra-op threads beyond one take cores that instances would use.
        instances = max(1, self.inventory.cores // self.intra_op_threads)
        return CompletionDefaults(self.default_max_batch_size, instances, gpus)


def read_config(entry: ModelEntry) -> ModelConfig:
    """The configuration as its file has it, or an empty one. Raises InvalidArgument naming what is wrong in it."""
    if entry.problem:
        raise InvalidArgument(entry.problem)
    if entry.config_path is None:
        return config_completion.default_config(entry.name)
    return config_file.read(entry.config_path, entry.name)


def wanted_versions(entry: ModelEntry, config: ModelConfig) -> dict[int, VersionEntry]:
    """The versions that the policy selects. Raises InvalidArgument when none is left."""
    available = {version.number: version for version in entry.versions}
    numbers = version_policy.select(config.version_policy, available)
    if not numbers:
        have = f"versions {sorted(available)} are there" if available else "there is no version directory with a model"
        raise InvalidArgument(
            f"at least one version must be available under the version policy of model '{entry.name}', but {have}. "
            f"Put the model at {entry.name}/1/model.onnx."
        )
    return {number: available[number] for number in numbers}


def load_version(entry: ModelEntry, config: ModelConfig, version: VersionEntry, options: LoadingOptions) -> LoadedModel:
    """Load one version as ``config`` asks. Raises InvalidArgument with the reason when it cannot be served."""
    start_ns = time.monotonic_ns()
    if not options.complete_configs and not (config.inputs and config.outputs):
        raise InvalidArgument(
            f"model '{config.name}' must specify its inputs and outputs in config.pbtxt, because completing "
            "configurations is switched off"
        )
    settings, unknown = settings_of(config, options.intra_op_threads)
    settings = replace(settings, allow_fallback=settings.allow_fallback or options.allow_fallback)
    require_device(config, settings, options.inventory, options.device)
    placed = config_completion.complete_instance_groups(config, options.defaults)
    places = places_of(placed, settings, options.inventory, options.device)
    session, mendings = _open(config, version, settings, places[0])
    completed = config_completion.complete(placed, session.signature, options.defaults)
    notes = [f"{mending}, so that ONNX Runtime can load it" for mending in mendings]
    notes += [f"its parameter '{key}' is not known and has no effect" for key in unknown]
    notes += completed.warnings
    return LoadedModel(
        name=config.name,
        number=version.number,
        config=completed,
        instances=_instances(config, version, settings, places, session),
        devices=tuple(place.device for place in places),
        intra_op_threads=settings.intra_op_threads,
        notes=tuple(notes),
        load_duration_ns=time.monotonic_ns() - start_ns,
        labels=_labels(entry, completed),
    )


def _labels(entry: ModelEntry, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """The labels of each output that names a file of them, one a line."""
    labels: dict[str, tuple[str, ...]] = {}
    for output in config.outputs:
        if output.label_filename:
            labels[output.name] = read_labels(entry, output.label_filename)
    return labels


def _open(
    config: ModelConfig, version: VersionEntry, settings: SessionSettings, place: Placement
) -> tuple[Session, tuple[str, ...]]:
    model = model_directory.model_file(version, config.default_model_filename or model_directory.DEFAULT_MODEL_FILENAME)
    return open_session(model, config.name, settings, place)


def _instances(
    config: ModelConfig,
    version: VersionEntry,
    settings: SessionSettings,
    places: tuple[Placement, ...],
    first: Session,
) -> tuple[tuple[str, Session], ...]:
    """One session for all CPU instances, since it can be run from many threads; one for each instance on a GPU."""
    sessions: dict[Placement | InstanceKind, Session] = {_sharing(places[0]): first}
    for place in places:
        key = _sharing(place)
        if key not in sessions:
            sessions[key] = _open(config, version, settings, place)[0]
    return tuple((place.instance_name, sessions[_sharing(place)]) for place in places)


def _sharing(place: Placement) -> Placement | InstanceKind:
    """Instances with the same key share a session."""
    return place.kind if place.kind is InstanceKind.CPU else place
