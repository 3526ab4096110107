"""A version as the metrics show it: its numbers and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from ortolan.core.whole_server import ToldVersion
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.frontends.metrics.exposition import label_text
from ortolan.repository.directory import NAMESPACE_SEPARATOR


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """Its labels are text already: dozens of lines have the same."""

    told: ToldVersion
    labels: str
    placed: str
    """The labels with the GPU, where all its instances are on one."""

    @property
    def statistics(self) -> ModelStatistics:
        return self.told.numbers.statistics


def shown(told: ToldVersion, gpu_uuids: Mapping[str, str]) -> ShownVersion:
    """``gpu_uuids``: by the device's name, such as ``GPU 0``."""
    version = told.version
    labels = {"model": version.name, "version": version.number_text}
    namespace, separator, _ = version.name.partition(NAMESPACE_SEPARATOR)
    if separator:
        labels["namespace"] = namespace
    labels |= {f"_{key}": value for key, value in version.config.metric_tags.items()}
    devices = set(version.loaded.devices) if version.loaded is not None else set()
    uuid = gpu_uuids.get(devices.pop()) if len(devices) == 1 else None
    text = label_text(labels)
    return ShownVersion(told, text, f"{text},{label_text({'gpu_uuid': uuid})}" if uuid else text)
