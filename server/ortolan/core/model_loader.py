"""From a directory of the repository to a loaded version. Blocking: runs in the loading threads.

What a load may need of the machine and of the operator's choices comes in as one ``LoadingOptions``; nothing here
knows of the event loop, of other models or of which versions are wanted.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ortolan.core.checked_files import FileRules, checks_of, private_companions
from ortolan.core.compilations import Original
from ortolan.core.compiled_cache import CompiledCache, CompiledUnfit
from ortolan.core.confidential_model import refuse_writing
from ortolan.core.golden_requests import check_golden_requests
from ortolan.core.load_override import refuse_other_files, refuse_server_files
from ortolan.core.model_version import LoadedModel
from ortolan.core.plan_of_version import plan_of, with_sequences
from ortolan.core.private_model import CopyRules, PrivateModel, take_privately
from ortolan.errors import Incomplete, InvalidArgument
from ortolan.execution.calibration import Profile, calibrate
from ortolan.execution.calibration_cache import CalibrationCache, CalibrationKey
from ortolan.execution.cuda_graphs import with_graphs
from ortolan.execution.detailed_statistics import DetailOptions
from ortolan.execution.device_notes import device_notes, refuse_other_models
from ortolan.execution.device_share import DeviceShare, DeviceShares
from ortolan.execution.devices import DeviceInventory, Placement, places_of, require_device
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.model_mending import open_session
from ortolan.execution.rate_limit_plan import rate_limited, without_effect
from ortolan.execution.rate_limiter import RateLimiter
from ortolan.execution.sequence_plan import sequence_plan, with_own_inputs
from ortolan.execution.session import RUNTIME_VERSION, Session
from ortolan.execution.session_settings import SessionSettings, settings_of
from ortolan.execution.tensorrt_defaults import with_tensorrt_defaults
from ortolan.execution.warm_up import run_samples
from ortolan.repository import config_completion, config_file, model_directory, version_policy
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.golden_files import GoldenRule, golden_place
from ortolan.repository.label_file import read_labels
from ortolan.repository.manifest import ManifestRule
from ortolan.repository.model_config import InstanceKind, ModelConfig
from ortolan.repository.model_directory import ModelEntry, VersionEntry
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.signatures import Signatures


@dataclass(frozen=True, slots=True)
class LoadingOptions:
    """What the operator and the machine decide for every model."""

    inventory: DeviceInventory
    shares: DeviceShares
    cache: CalibrationCache = field(default_factory=lambda: CalibrationCache(None))
    calibrating: threading.Lock = field(default_factory=threading.Lock)
    """Held while a model is measured, so that two measurements do not disturb each other."""
    max_execution_s: float = 0.0
    device: str = "auto"
    default_max_batch_size: int = 4
    complete_configs: bool = True
    intra_op_threads: int = 1
    allow_fallback: bool = False
    copies: CopyRules = field(default_factory=lambda: CopyRules(OverrideDirectories()))
    manifest: ManifestRule = "check"
    golden: GoldenRule = "check"
    compiled: CompiledCache = field(default_factory=CompiledCache)
    rate_limiter: RateLimiter | None = None
    """None where instances run whenever there is work."""
    signatures: Signatures = field(default_factory=Signatures)
    engines: Path | None = None
    """Where TensorRT's engines are kept; nowhere if None."""
    processes: int = 1
    """How many processes serve on the same ports."""
    hop_ns: int = 80_000
    """What a hop to a thread and back costs (``thread_hop``)."""
    detail: DetailOptions = field(default_factory=DetailOptions)
    """What is counted of each request beyond the usual."""

    @property
    def file_rules(self) -> FileRules:
        return FileRules(self.copies.directories, self.manifest, self.signatures, self.golden)

    @property
    def defaults(self) -> CompletionDefaults:
        gpus = self.inventory.usable_gpus
        # Intra-op threads beyond one take cores that instances would use.
        instances = max(1, self.inventory.cores // self.intra_op_threads)
        return CompletionDefaults(self.default_max_batch_size, instances, gpus)


def read_config(entry: ModelEntry) -> ModelConfig:
    """The configuration as its file has it, or an empty one. Raises InvalidArgument naming what is wrong in it."""
    if entry.problem:
        # A directory without a version may be about to get one.
        raise (InvalidArgument if entry.versions else Incomplete)(entry.problem)
    if entry.config_path is None:
        return config_completion.default_config(entry.name)
    config = config_file.read(entry.config_path, entry.own_name or entry.name, (entry.directory, entry.repository))
    return replace(config, name=entry.name)


def read_override(entry: ModelEntry, text: str, with_files: bool) -> ModelConfig:
    """The configuration that a client sent for ``entry``, which is its own ``with_files``, else the repository's.

    Raises InvalidArgument naming what is wrong in it.
    """
    if entry.problem:
        raise InvalidArgument(f"model '{entry.name}' cannot be loaded: {entry.problem}")
    config = replace(config_file.parse_json(text, entry.own_name or entry.name), name=entry.name)
    own: ModelConfig | None = None
    if not with_files:
        # One that cannot be read allows nothing; it may be why the client sends another.
        with contextlib.suppress(InvalidArgument):
            own = read_config(entry)
        refuse_other_files(config, own)
    refuse_server_files(config, own)
    return config


def wanted_versions(entry: ModelEntry, config: ModelConfig) -> dict[int, VersionEntry]:
    """The versions that the policy selects. Raises InvalidArgument when none is left."""
    available = {version.number: version for version in entry.versions}
    numbers = version_policy.select(config.version_policy, available)
    if not numbers:
        have = f"versions {sorted(available)} are there" if available else "there is no version directory with a model"
        newest = max(available, default=1)
        advice = f"write version_policy {{ specific {{ versions: [ {newest} ] }} }}, or leave it out"
        raise InvalidArgument(
            f"at least one version must be available under the version policy of model '{entry.name}', but {have}. "
            + (f"In config.pbtxt {advice}." if available else f"Put the model at {entry.name}/1/model.onnx.")
        )
    return {number: available[number] for number in numbers}


def load_version(entry: ModelEntry, config: ModelConfig, version: VersionEntry, options: LoadingOptions) -> LoadedModel:
    """Load one version as ``config`` asks. Raises InvalidArgument with the reason when it cannot be served."""
    try:
        return _load(entry, config, version, options)
    except CompiledUnfit as unfit:
        loaded = _load(entry, config, version, replace(options, compiled=CompiledCache()))
        unfit.discard()
        return loaded


def _load(entry: ModelEntry, config: ModelConfig, version: VersionEntry, options: LoadingOptions) -> LoadedModel:
    start_ns = time.monotonic_ns()
    if not options.complete_configs and not (config.inputs and config.outputs):
        raise InvalidArgument(
            f"model '{config.name}' must specify its inputs and outputs in config.pbtxt, because completing "
            "configurations is switched off"
        )
    if config.sequence_batching is not None and options.processes > 1:
        raise InvalidArgument(
            f"model '{config.name}' has sequence_batching, which --processes={options.processes} cannot serve: "
            "requests of a sequence could reach different processes; serve it with --processes=1"
        )
    settings, unknown = settings_of(config, options.intra_op_threads)
    settings = replace(settings, allow_fallback=settings.allow_fallback or options.allow_fallback)
    require_device(config, settings, options.inventory, options.device)
    placed = config_completion.complete_instance_groups(config, options.defaults)
    places = with_graphs(config, settings, places_of(placed, settings, options.inventory, options.device))
    refuse_other_models(config, places)
    model = model_directory.model_file(version, config.default_model_filename or model_directory.DEFAULT_MODEL_FILENAME)
    rules = options.file_rules
    checks = checks_of(entry, config, version.directory, model, rules)
    with private_companions(entry, config, checks, rules.directories) as companions, contextlib.ExitStack() as undo:
        private = take_privately(entry, model, checks, options.copies)
        if private.facts.confidential:
            refuse_writing(config.name, settings, places)
        engines = None if private.facts.confidential else options.engines
        places, engine_notes = with_tensorrt_defaults(places, placed, engines, private.facts.sha256, RUNTIME_VERSION)
        own_settings = replace(settings, custom_op_libraries=companions.libraries)
        original = Original(private, placed, entry.directory, own_settings, options.defaults)
        opened = options.compiled.open(original, places)
        session, private = opened.session, opened.private
        undo.callback(private.remove)
        completed = config_completion.complete(placed, session.signature, options.defaults)
        labels = _labels(replace(entry, directory=companions.directory), completed, session.signature.labels)
        instances = _instances(config, private, own_settings, places, session, options.shares)
        served = with_own_inputs(completed)
        sessions = list(dict.fromkeys(session for _, session, _ in instances))
        golden = golden_place(entry, version.directory, model)
        with opened.trial():
            for each in sessions:
                run_samples(served, each, companions.directory)
            check_golden_requests(config.name, golden, sessions, config.parameters, options.golden, checks.check)
        profile = _profile(served, session, private.facts, settings, options)
        limit_s = options.max_execution_s if settings.max_execution_s is None else settings.max_execution_s
        plan = plan_of(served, profile, private.facts, limit_s, places, options.hop_ns)
        sequences = sequence_plan(completed, len(instances), companions.directory)
        plan = rate_limited(with_sequences(plan, sequences), places, options.rate_limiter)
        plan = replace(plan, statistics=partial(options.detail.statistics, config.first_response_bounds_ms))
        if private.maps_files:
            undo.pop_all()
    notes = [f"{mending}, so that ONNX Runtime can load it" for mending in opened.mendings]
    notes += engine_notes
    notes += [f"its parameter '{key}' is not known and has no effect" for key in unknown]
    notes += (*completed.warnings, *without_effect(completed, options.rate_limiter))
    notes += device_notes(config, settings, places, {name for each in sessions for name in each.providers})
    notes += [profile.note] if profile.note else []
    return LoadedModel(
        name=config.name,
        number=version.number,
        config=completed,
        instances=instances,
        plan=plan,
        profile=profile,
        devices=tuple(place.device for place in places),
        intra_op_threads=settings.intra_op_threads,
        notes=tuple(notes),
        load_duration_ns=time.monotonic_ns() - start_ns,
        labels=labels,
        maps_compiled=private.maps_files,
        remove_files=private.remove,
    )


def _profile(
    config: ModelConfig, session: Session, facts: ModelFacts, settings: SessionSettings, options: LoadingOptions
) -> Profile:
    """What is known of the model's costs: from the cache, else measured now."""
    key = CalibrationKey(
        facts.sha256,
        RUNTIME_VERSION,
        session.providers,
        settings.intra_op_threads,
        config.max_batch_size,
        repr((settings, config.inputs, config.outputs, config.batch_inputs, config.batch_outputs)),
    )
    profile = options.cache.find(key)
    if profile is None:
        with options.calibrating:
            profile = calibrate(config, session, facts)
        options.cache.keep(key, profile)
    return profile


def _labels(
    entry: ModelEntry, config: ModelConfig, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The labels of each output that names a file of them, one a line, and the ``classes`` that the graph names."""
    labels = dict(classes)
    for output in config.outputs:
        if output.label_filename:
            labels[output.name] = read_labels(entry, output.label_filename)
    return labels


def _instances(
    config: ModelConfig,
    model: PrivateModel,
    settings: SessionSettings,
    places: Sequence[Placement],
    first: Session,
    shares: DeviceShares,
) -> tuple[tuple[str, Session, DeviceShare], ...]:
    """One session for all CPU instances, since it can be run from many threads; one for each instance on a GPU."""
    sessions: dict[Placement | InstanceKind, Session] = {_sharing(places[0]): first}
    for place in places:
        key = _sharing(place)
        if key not in sessions:
            sessions[key] = open_session(model.source, config.name, settings, place, model.folder)[0]
    return tuple((place.instance_name, sessions[_sharing(place)], shares.of(place.device)) for place in places)


def _sharing(place: Placement) -> Placement | InstanceKind:
    """Instances with the same key share a session."""
    return place.kind if place.kind is InstanceKind.CPU else place
