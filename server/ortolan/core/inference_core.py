"""The inference core: the one facade that both frontends speak to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ortolan import __version__
from ortolan.core.access_log import AccessLog
from ortolan.core.control_rules import ControlMode, check_model_name, require_control
from ortolan.core.default_model import default_model
from ortolan.core.direct_inference import DirectInference
from ortolan.core.ensemble_version import BATCHED_BY_STEPS
from ortolan.core.error_responses import ErrorResponses
from ortolan.core.load_meter import LoadMeter
from ortolan.core.load_override import check_unload, is_forced, load_override
from ortolan.core.log_settings import LogControl, LogSettings
from ortolan.core.model_manager import ModelManager
from ortolan.core.model_records import IndexEntry
from ortolan.core.placed_models import PlacedModels
from ortolan.core.request_terms import check_id, sequence_of
from ortolan.core.residency import Residency
from ortolan.core.sequence_turns import SequenceTurns
from ortolan.core.served_version import ServedVersion
from ortolan.core.shared_memory import SharedMemoryRegions
from ortolan.core.shared_tensors import SharedTensors
from ortolan.core.trace_settings import ALL_MODELS, TraceSettings
from ortolan.core.tracing import FrontendTrace, Tracing
from ortolan.core.whole_server import Processes, WholeServer
from ortolan.errors import InvalidArgument, NotFound, Unavailable
from ortolan.inference.request import InferenceRequest, InferenceResponse
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.repository import config_rendering
from ortolan.repository.model_config import ModelConfig

# In Triton's order, as far as this server has them: clients look features up in this list.
EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)

_NO_PARAMETERS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """Who answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """A tensor as clients see it; the shape of a batching model starts with -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    properties: Mapping[str, str]
    """How the server treats the model, for people."""


class InferenceCore:
    """Everything a frontend may ask. Lives on the event loop; its methods raise ``OrtolanError`` kinds only."""

    def __init__(
        self,
        manager: ModelManager,
        server_name: str,
        control_mode: ControlMode,
        strict_readiness: bool,
        tracing: Tracing | None = None,
        log_control: LogControl | None = None,
        shared_tensors: SharedTensors | None = None,
        processes: Processes | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        """Without ``tracing`` nothing is traced; without ``log_control`` changed log settings have no effect; without
        ``shared_tensors`` clients may not use shared memory; without ``processes`` the server has this one only;
        without ``access_log`` nobody keeps notes of who asked what.
        """
        self.tracing = tracing or Tracing(TraceSettings())
        self.log_control = log_control or LogControl(LogSettings())
        self._shared_tensors = shared_tensors or SharedTensors(SharedMemoryRegions(allowed=False))
        self.shared_memory = self._shared_tensors.regions
        self._turns = SequenceTurns()
        self._manager = manager
        self.direct = DirectInference(manager, self.tracing)
        self.errors = ErrorResponses()
        self.access_log = access_log
        self.load_meter = LoadMeter(self.serving)
        self._server_name = server_name
        self._control_mode = control_mode
        self._strict_readiness = strict_readiness
        self._started = False
        self._draining = False
        self.whole = WholeServer(self, processes)

    # -- the server ----------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> ServerMetadata:
        return ServerMetadata(self._server_name, __version__, EXTENSIONS)

    def set_started(self) -> None:
        """The models to be served at the start have been tried."""
        self._started = True

    def set_draining(self) -> None:
        """The server is about to stop: it is not ready any more, but still answers."""
        self._draining = True

    @property
    def draining(self) -> bool:
        return self._draining

    def is_ready(self) -> bool:
        """Whether the server should get requests: started, not draining and, if strict, with every model ready."""
        if not self._started or self._draining:
            return False
        return not self._strict_readiness or self._manager.all_ready()

    # -- models --------------------------------------------------------------------------------------------------

    async def infer(self, request: InferenceRequest, frontend: FrontendTrace | None = None) -> InferenceResponse:
        """The answer to ``request``; ``frontend`` is told of its trace, if it is traced."""
        check_id(request.id)
        version = await self._found(request.model_name, request.model_version, request.deadline_ns)
        if version.signature.sequences:
            return await self._infer_in_turn(version, request, frontend)
        return await self._infer(version, request, frontend)

    async def _infer_in_turn(
        self, version: ServedVersion, request: InferenceRequest, frontend: FrontendTrace | None
    ) -> InferenceResponse:
        terms = sequence_of(request.parameters)
        sequence = version.name, terms.id if terms else 0
        may_be_overtaken = request.uses_shared_memory or version.loaded is None
        if terms is None or not (may_be_overtaken or self._turns.are_taken(sequence)):
            return await self._infer(version, request, frontend)
        async with self._turns.of(sequence):
            return await self._infer_found(request, frontend)

    async def _infer(
        self, version: ServedVersion, request: InferenceRequest, frontend: FrontendTrace | None
    ) -> InferenceResponse:
        if request.uses_shared_memory:
            # What the model cannot take is refused before anything is read for it.
            version.checked_rows(request)
            return await self._shared_tensors.infer(request, lambda copied: self._infer_found(copied, frontend))
        if not self.tracing.on:
            return await version.infer(request)
        with self.tracing.following(request, version.number, frontend) as trace:
            return await version.infer(request, trace)

    async def _infer_found(self, request: InferenceRequest, frontend: FrontendTrace | None) -> InferenceResponse:
        """As ``_infer``, of the version that is served now."""
        version = await self._found(request.model_name, request.model_version, request.deadline_ns)
        return await self._infer(version, request, frontend)

    async def _found(self, name: str, version: str, deadline_ns: int = 0) -> ServedVersion:
        """The ready version, loaded first if it is one that loads on demand; nothing waits once it is found."""
        try:
            return self._manager.find(name, version)
        except (NotFound, Unavailable):
            return await self._manager.residency.bring(name, version, deadline_ns)

    async def signature(self, name: str, version: str) -> ModelSignature:
        return (await self._found(name, version)).signature

    def model_ready(self, name: str, version: str) -> bool:
        """Whether a request would be answered, if only once the model is loaded for it.

        Raises NotFound for a model or a version that is not there at all.
        """
        if self._manager.residency.may_load(name, version):
            return True
        try:
            return not self._manager.hangs(self._manager.find(name, version))
        except Unavailable:
            return False

    def model_names(self) -> list[str]:
        """The models that have a ready version, or are loaded on demand."""
        return sorted({*(version.name for version in self._manager.serving()), *self._manager.residency.loadable()})

    def require_ready(self, name: str) -> None:
        """Raises NotFound for a model that is not there, Unavailable for one that should be ready but is not."""
        if self._manager.is_missed(name) or not self.model_ready(name, ""):
            raise Unavailable(f"model '{name}' is not ready: it loads, failed to load, or cannot run any more")

    async def model_metadata(self, name: str, version: str) -> ModelMetadata:
        found = await self._found(name, version)
        numbers = [found.number] if version else self._manager.ready_numbers(name)
        signature = found.signature
        return ModelMetadata(
            name=name,
            versions=tuple(str(number) for number in numbers),
            platform=found.config.platform or found.config.backend,
            inputs=_tensors_metadata(signature.inputs, signature.batching),
            outputs=_tensors_metadata(signature.outputs, signature.batching),
            properties=_properties(found),
        )

    async def model_config(self, name: str, version: str) -> ModelConfig:
        return (await self._found(name, version)).config

    async def model_config_json(self, name: str, version: str) -> dict[str, object]:
        return config_rendering.to_json(await self.model_config(name, version))

    def statistics(self, name: str, version: str) -> list[ServedVersion]:
        """The versions whose statistics are asked for; all of them for an empty name."""
        if not name:
            return list(self._manager.serving())
        own_name = self._manager.own_name(name)
        found = [v for v in self._manager.serving() if v.name == own_name and version in ("", v.number_text)]
        if found:
            return found
        if self._manager.ready_numbers(name):
            raise InvalidArgument(f"requested model version is not available for model '{name}'")
        raise InvalidArgument(f"requested model '{name}' is not available")

    def serving(self) -> Sequence[ServedVersion]:
        return list(self._manager.serving())

    @property
    def visible_gpus(self) -> str | None:
        """CUDA_VISIBLE_DEVICES, as it was at the start."""
        return self._manager.inventory.visible_gpus

    def known_versions(self) -> list[IndexEntry]:
        """As ``index``, by what is known already."""
        return self._manager.index()

    @property
    def residency(self) -> Residency:
        """Which models are in memory."""
        return self._manager.residency

    # -- settings ------------------------------------------------------------------------------------------------

    def trace_settings(self, model: str) -> TraceSettings:
        """The settings of ``model``, or of all models for "". Raises NotFound for a model that is not ready."""
        self._require_model(model)
        return self.tracing.settings(self._manager.own_name(model))

    def change_trace_settings(self, model: str, change: Mapping[str, object]) -> TraceSettings:
        """The settings after ``change``. Raises as ``trace_settings`` and ``TraceTable.changed`` do."""
        self._require_model(model)
        self.tracing.forget_others(self._manager.knows)
        model = self._manager.own_name(model)
        self.tracing.change(model, change)
        return self.tracing.settings(model)

    def _require_model(self, name: str) -> None:
        if name != ALL_MODELS:
            self._manager.find(name, "")

    # -- the repository ------------------------------------------------------------------------------------------

    async def index(self, only_ready: bool) -> list[IndexEntry]:
        """The repository as it is on disk now, with the state of what was loaded from it."""
        await self._manager.look()
        return [entry for entry in self._manager.index() if not only_ready or entry.state == "READY"]

    async def load(self, name: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> None:
        """Load the model from the repository, or from what the ``parameters`` bring (see ``load_override``)."""
        self.require_control(name)
        await self._manager.load(name, load_override(parameters), is_forced(parameters))

    async def unload(self, name: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> None:
        self.require_control(name)
        await self._manager.unload(name, check_unload(parameters))

    # -- models that a platform places -----------------------------------------------------------------------------

    @property
    def placed(self) -> PlacedModels:
        """Those that a platform has loaded in this process; ``whole`` loads and unloads them."""
        return self._manager.placed

    def default_model(self, chosen: str = "") -> str:
        """The model that is meant where a request names none: ``chosen``, or the only one that there is.

        Models that ensembles are made of do not count. Raises InvalidArgument where that leaves several, NotFound where
        it leaves none.
        """
        return chosen or default_model(self.model_names() or self._manager.names(), self._manager.uses())

    def require_control(self, name: str) -> None:
        """Raises Unavailable where clients may not load and unload, InvalidArgument for what no model can be called."""
        require_control(self._control_mode)
        check_model_name(name)


def _properties(version: ServedVersion) -> Mapping[str, str]:
    if version.loaded is None:
        return {"batching": BATCHED_BY_STEPS}
    return {"batching": version.loaded.plan.batching.reason, "batch_invariance": version.loaded.profile.invariance}


def _tensors_metadata(specs: Sequence[TensorSpec], batching: bool) -> tuple[TensorMetadata, ...]:
    return tuple(TensorMetadata(spec.name, spec.datatype.name, spec.wire_shape(batching)) for spec in specs)
