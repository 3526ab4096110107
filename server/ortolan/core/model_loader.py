"""From a directory of the repository to a loaded version. Blocking: runs in the loading threads.

What a load may need of the machine and of the operator's choices comes in as one ``LoadingOptions``; nothing here
knows of the event loop, of other models or of which versions are wanted.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ortolan.core.golden_requests import check_golden_requests
from ortolan.core.load_override import refuse_other_files, refuse_server_files
from ortolan.core.model_version import LoadedModel, shapes_vary
from ortolan.core.private_model import CopyRules, PrivateModel, take_privately
from ortolan.errors import InvalidArgument
from ortolan.execution.batch_policy import Batching
from ortolan.execution.calibration import Profile, calibrate
from ortolan.execution.calibration_cache import CalibrationCache, CalibrationKey
from ortolan.execution.cost_curve import CurveBook
from ortolan.execution.device_share import DeviceShare, DeviceShares
from ortolan.execution.devices import DeviceInventory, Placement, places_of, require_device
from ortolan.execution.inline_gate import InlineGate
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.model_mending import open_session
from ortolan.execution.scheduling_plan import SchedulingPlan
from ortolan.execution.sequence_plan import DIRECT_REASON, SequencePlan, sequence_plan, with_own_inputs
from ortolan.execution.session import RUNTIME_VERSION, Session
from ortolan.execution.session_settings import SessionSettings, settings_of
from ortolan.execution.waiting_line import LinePolicy
from ortolan.execution.warm_up import run_samples
from ortolan.inference.datatypes import BYTES
from ortolan.repository import config_completion, config_file, model_directory, version_policy
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.golden_files import GoldenRule, golden_parents
from ortolan.repository.label_file import read_labels
from ortolan.repository.manifest import ManifestRule, Manifests, read_manifests
from ortolan.repository.model_config import InstanceKind, ModelConfig
from ortolan.repository.model_directory import ModelEntry, VersionEntry
from ortolan.repository.override_directory import OverrideDirectories

# A hop to an instance's thread and back costs 75 us and more; below this a batch is about as cheap where it is.
INLINE_NS = 80_000


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
    return replace(config_file.read(entry.config_path, entry.own_name or entry.name), name=entry.name)


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
    model = model_directory.model_file(version, config.default_model_filename or model_directory.DEFAULT_MODEL_FILENAME)
    manifests = _manifests(entry, config, version, model, options)
    with contextlib.ExitStack() as undo:
        private = take_privately(entry, model, manifests, options.copies)
        undo.callback(private.remove)
        session, mendings = open_session(private.source, config.name, settings, places[0], private.folder)
        completed = config_completion.complete(placed, session.signature, options.defaults)
        labels = _labels(entry, completed, session.signature.labels)
        instances = _instances(config, private, settings, places, session, options.shares)
        served = with_own_inputs(completed)
        _try_out(entry, served, version, model, instances, manifests, options)
        profile = _profile(served, session, private.facts, settings, options)
        plan = _plan(served, profile, private.facts, settings, options, places)
        sequences = sequence_plan(completed, len(instances), entry.directory)
        if private.maps_files:
            undo.pop_all()
    notes = [f"{mending}, so that ONNX Runtime can load it" for mending in mendings]
    notes += [f"its parameter '{key}' is not known and has no effect" for key in unknown]
    notes += completed.warnings
    notes += [profile.note] if profile.note else []
    return LoadedModel(
        name=config.name,
        number=version.number,
        config=completed,
        instances=instances,
        plan=_with_sequences(plan, sequences),
        profile=profile,
        devices=tuple(place.device for place in places),
        intra_op_threads=settings.intra_op_threads,
        notes=tuple(notes),
        load_duration_ns=time.monotonic_ns() - start_ns,
        labels=labels,
        remove_files=private.remove,
    )


def _manifests(
    entry: ModelEntry, config: ModelConfig, version: VersionEntry, model: Path, options: LoadingOptions
) -> Manifests:
    """The manifests of the version, when what its configuration names is as they say; else raises InvalidArgument."""
    directories = (model.parent, version.directory, entry.directory)
    manifests = read_manifests(entry.name, directories, options.manifest)
    files = [entry.config_path] if entry.config_path else []
    files += [entry.directory / output.label_filename for output in config.outputs if output.label_filename]
    samples = (given for sample in config.warmup for given in sample.inputs)
    files += [entry.directory / "warmup" / given.file for given in samples if given.file]
    libraries = (Path(name).absolute() for name in config.op_library_filenames)
    files += [library for library in libraries if library.is_relative_to(entry.directory)]
    for file in files:
        manifests.check_file(file)
    return manifests


def _try_out(
    entry: ModelEntry,
    config: ModelConfig,
    version: VersionEntry,
    model: Path,
    instances: Sequence[tuple[str, Session, DeviceShare]],
    manifests: Manifests,
    options: LoadingOptions,
) -> None:
    """Warm every session up and run the golden requests. Raises InvalidArgument naming the request that fails."""
    sessions = list(dict.fromkeys(session for _, session, _ in instances))
    for session in sessions:
        run_samples(config, session, entry.directory)
    parents = golden_parents(model, version.directory, entry.directory)
    check_golden_requests(config.name, parents, sessions, config.parameters, options.golden, manifests.check)


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
        repr((settings, config.inputs, config.outputs)),
    )
    profile = options.cache.find(key)
    if profile is None:
        with options.calibrating:
            profile = calibrate(config, session, facts)
        options.cache.keep(key, profile)
    return profile


def _plan(
    config: ModelConfig,
    profile: Profile,
    facts: ModelFacts,
    settings: SessionSettings,
    options: LoadingOptions,
    places: Sequence[Placement],
) -> SchedulingPlan:
    dynamic = config.dynamic_batching
    rows_vary = shapes_vary(config)
    batching = Batching.of(config, profile.unsafe_because)
    on_cpu = all(place.kind is InstanceKind.CPU for place in places)
    # A run on the loop cannot be stopped by it, so its cost must not depend on what is in the request.
    max_rows = max(1, config.max_batch_size)
    texts = any(spec.datatype is BYTES for spec in config.inputs)
    inline = on_cpu and not (rows_vary or texts or facts.loops or batching.explicit or config.op_library_filenames)
    limit_s = options.max_execution_s if settings.max_execution_s is None else settings.max_execution_s
    return SchedulingPlan(
        batching=batching,
        line=LinePolicy.of(dynamic),
        preserve_ordering=dynamic is not None and dynamic.preserve_ordering,
        curves=CurveBook(profile.points, max_rows, rows_vary) if profile.points else None,
        inline_gate=InlineGate(profile.points, max_rows, INLINE_NS) if inline and profile.points else None,
        part_rows=max_rows,
        max_execution_s=limit_s,
    )


def _with_sequences(plan: SchedulingPlan, sequences: SequencePlan | None) -> SchedulingPlan:
    if sequences is None or not sequences.direct:
        return replace(plan, sequences=sequences)
    batching = Batching(sequences.rule.rows, explicit=True, reason=DIRECT_REASON)
    return replace(plan, sequences=sequences, batching=batching)


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
