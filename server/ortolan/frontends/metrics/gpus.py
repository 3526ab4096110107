"""Triton's metrics of GPUs, by NVIDIA's management library; nothing where that, or a GPU, is not there.

It is asked from time to time in a thread, since it may take milliseconds, and never while a page is made.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ortolan.frontends.metrics.exposition import Family, Kind, label_text, sample

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Measure:
    """One metric, and how the library tells it of one GPU."""

    name: str
    kind: Kind
    explanation: str
    ask: Callable[[Any, Any], float]


_MEASURES = (
    _Measure(
        "nv_gpu_utilization",
        "gauge",
        "GPU utilization rate [0.0 - 1.0)",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    _Measure(
        "nv_gpu_memory_total_bytes",
        "gauge",
        "GPU total memory, in bytes",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    _Measure(
        "nv_gpu_memory_used_bytes",
        "gauge",
        "GPU used memory, in bytes",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    _Measure(
        "nv_gpu_power_usage",
        "gauge",
        "GPU power usage in watts",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
    _Measure(
        "nv_gpu_power_limit",
        "gauge",
        "GPU power management limit in watts",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    ),
    _Measure(
        "nv_energy_consumption",
        "counter",
        "GPU energy consumption in joules since the driver was loaded",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000,
    ),
)


@dataclass(slots=True)
class Gpus:
    """Those that CUDA_VISIBLE_DEVICES lets the process see, in its order. ``look`` may run in any thread."""

    visible: str | None = None
    """The value of that variable; None where it is not set."""
    uuids: Mapping[str, str] = field(default_factory=dict)
    """By the names that devices have here: ``GPU 0``."""
    _values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _library: Any = None
    _handles: Sequence[tuple[str, Any]] = ()
    _opened: bool = False

    def look(self) -> None:
        """Ask each GPU everything; what one does not know is left out."""
        if not self._opened:
            self._opened = True
            self._open()
        self._values = {uuid: self._told(handle) for uuid, handle in self._handles}

    def families(self) -> Iterator[Family]:
        for measure in _MEASURES:
            lines = [
                sample(measure.name, values[measure.name], label_text({"gpu_uuid": uuid}))
                for uuid, values in self._values.items()
                if measure.name in values
            ]
            yield Family(measure.name, measure.kind, measure.explanation, lines)

    def _open(self) -> None:
        try:
            import pynvml  # in the extra for GPUs

            pynvml.nvmlInit()
            every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            named = [(str(pynvml.nvmlDeviceGetUUID(handle)), handle) for handle in every]
        except ImportError:
            return
        # The library's errors have no base but Exception, and whatever it is, it is no reason not to serve.
        except Exception as error:
            _log.debug("there are no metrics of GPUs: %s", error)
            return
        self._library = pynvml
        self._handles = seen(named, self.visible)
        self.uuids = {f"GPU {index}": uuid for index, (uuid, _) in enumerate(self._handles)}

    def _told(self, handle: Any) -> Mapping[str, float]:
        found = {}
        for measure in _MEASURES:
            try:
                found[measure.name] = float(measure.ask(self._library, handle))
            # Not every GPU knows everything.
            except Exception as error:
                _log.debug("a GPU does not tell %s: %s", measure.name, error)
        return found


def seen(gpus: Sequence[tuple[str, Any]], visible: str | None) -> Sequence[tuple[str, Any]]:
    """Those of ``gpus``, by identity, that CUDA_VISIBLE_DEVICES names: by number or by the beginning of the identity.

    As CUDA has it, nothing counts after an entry that is none.
    """
    if visible is None:
        return gpus
    found = []
    for entry in map(str.strip, visible.split(",")):
        by_number = [gpus[int(entry)]] if entry.isdecimal() and int(entry) < len(gpus) else []
        chosen = by_number or [gpu for gpu in gpus if entry.startswith("GPU-") and gpu[0].startswith(entry)]
        if len(chosen) != 1:
            break
        found += chosen
    return found
