"""The settings → the manager of the models that they name, with everything that loading needs."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ortolan.core import compiled_cache
from ortolan.core.cache_config import parse_cache_config
from ortolan.core.compiled_cache import CompiledCache
from ortolan.core.load_failure import PATIENCE_S
from ortolan.core.memory_amount import amount_of
from ortolan.core.memory_limit import MemoryLimit, allowed_bytes
from ortolan.core.memory_meter import available_bytes
from ortolan.core.metrics_config import parse_metrics_config
from ortolan.core.model_loader import LoadingOptions
from ortolan.core.model_manager import ModelManager
from ortolan.core.private_model import CopyRules
from ortolan.core.rate_limit_config import rate_limiter_for
from ortolan.core.residency import ResidencyRules
from ortolan.core.response_cache import ResponseCache
from ortolan.execution import session
from ortolan.execution.calibration_cache import CalibrationCache
from ortolan.execution.compiled_store import CompiledStore
from ortolan.execution.detailed_statistics import DetailOptions
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import take_inventory
from ortolan.execution.request_queue import QueueLimits
from ortolan.execution.thread_hop import measured_hop_ns
from ortolan.integrity_options import model_keys, signatures
from ortolan.repository.file_contents import FileContents
from ortolan.repository.override_directory import OverrideDirectories
from ortolan.repository.private_files import unknown
from ortolan.repository.sources.mirrors import Mirrors
from ortolan.settings import Settings

_log = logging.getLogger(__name__)

# How long each of several processes waits for a model to be compiled, as ``compiled_cache.PATIENCE_S`` is for one.
_PATIENCE_OF_SEVERAL_S = 60.0


def model_manager(
    settings: Settings, visible_gpus: str | None, held_requests: int = 0, environment: Mapping[str, str] | None = None
) -> ModelManager:
    """The manager of the models that ``settings`` name.

    ``visible_gpus`` is CUDA_VISIBLE_DEVICES; ``held_requests`` is Triton's hook for tests of schedulers;
    ``environment`` has the credentials for repositories that are elsewhere. Raises StartupError for a wrong address.
    """
    mirrors = Mirrors(settings.model_repository, environment or {}, settings.downloads, settings.download_concurrency)
    cache_bytes = parse_cache_config(settings.cache_config, settings.response_cache_byte_size)
    providers = session.available_providers()
    inventory = take_inventory(providers, visible_gpus, settings.device)
    if inventory.usable_gpus:
        session.preload_gpu_libraries()
    if inventory.lacks_gpus and settings.device == "auto":
        _log.warning(
            "this ONNX Runtime is for GPUs, and no GPU was found: models run on the CPU. "
            "A container has to be given its GPUs: docker run --gpus all, or a limit of nvidia.com/gpu"
        )
    contents = None if settings.model_control_mode == "none" else FileContents()
    options = LoadingOptions(
        inventory=inventory,
        device=settings.device,
        default_max_batch_size=settings.default_max_batch_size,
        complete_configs=not settings.disable_auto_complete_config,
        intra_op_threads=settings.intra_op_threads,
        allow_fallback=settings.fallback == "allow",
        shares=DeviceShares(inventory.cores),
        cache=CalibrationCache(settings.calibration_directory),
        max_execution_s=settings.max_execution_secs,
        copies=CopyRules(
            OverrideDirectories(settings.model_copies),
            allow_hard_links=settings.external_data_hard_links == "allow",
            keys=model_keys(settings, environment or {}),
            known=unknown if contents is None else contents.known,
        ),
        signatures=signatures(settings),
        manifest=settings.model_manifest,
        golden=settings.golden_requests,
        compiled=_compiled_cache(settings, environment or {}),
        processes=settings.processes,
        hop_ns=measured_hop_ns(),
        engines=settings.tensorrt_engines,
        rate_limiter=rate_limiter_for(settings.rate_limit, settings.rate_limit_resource),
        detail=_detail(settings),
    )
    return ModelManager(
        mirrors.roots,
        options,
        QueueLimits(settings.max_queue_size, settings.max_queue_bytes, held_requests),
        settings.model_load_thread_count,
        settings.model_name,
        settings.model_config_name,
        namespacing=settings.model_namespacing,
        contents=contents,
        quiet_s=settings.repository_quiet_secs,
        cache=ResponseCache(cache_bytes) if cache_bytes else None,
        mirrors=mirrors,
        rules=_residency_rules(settings),
        patience_s=PATIENCE_S,
        placed_base=Path(settings.sagemaker_models_directory) if settings.sagemaker_multi_model else None,
        roots_wait_s=settings.model_repository_wait_secs,
    )


def _detail(settings: Settings) -> DetailOptions:
    """Raises StartupError for a wrong ``--metrics-config``."""
    config = parse_metrics_config(settings.metrics_config)
    told = settings.allow_metrics
    return DetailOptions(histograms=told and config.histograms, summaries=told and config.summaries)


def memory_limit(settings: Settings) -> MemoryLimit:
    """What keeps one of the server's processes within its part of the memory."""
    has_gpu = settings.device != "cpu" and len(session.available_providers()) > 1
    return MemoryLimit(allowed_bytes(settings.memory_limit, available_bytes(), settings.processes, has_gpu))


def _residency_rules(settings: Settings) -> ResidencyRules:
    budget = settings.model_memory_budget
    return ResidencyRules(
        budget_bytes=amount_of(budget, available_bytes()) if budget else 0,
        # SageMaker counts on it that what it had loaded is there, and makes room itself when it is told to.
        may_unload=(settings.load_on_demand or settings.model_control_mode == "explicit")
        and not settings.sagemaker_multi_model,
        on_demand=settings.load_on_demand,
        wait_s=settings.load_on_demand_wait_secs,
        unload_idle_s=settings.model_idle_secs,
        shrink_idle_s=settings.arena_idle_secs,
        pinned=frozenset(settings.pin_model),
    )


def _compiled_cache(settings: Settings, environment: Mapping[str, str]) -> CompiledCache:
    directory = settings.compiled_models
    store = CompiledStore(directory, settings.compiled_cache_size) if directory else None
    # Several processes that do not map what is compiled would each hold it.
    patience_s = compiled_cache.PATIENCE_S if settings.processes == 1 else _PATIENCE_OF_SEVERAL_S
    return CompiledCache(store, environment, patience_s)
