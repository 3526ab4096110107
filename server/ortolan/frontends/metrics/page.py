"""The page: everything that the server counts, as text, made when somebody asks."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ortolan.core.inference_core import InferenceCore
from ortolan.core.metrics_config import MetricsConfig
from ortolan.core.whole_server import ToldServer
from ortolan.frontends.metrics.exposition import Family, lines_of
from ortolan.frontends.metrics.gpus import Gpus
from ortolan.frontends.metrics.machine import Machine
from ortolan.frontends.metrics.model_families import model_families
from ortolan.frontends.metrics.process_use import process_families
from ortolan.frontends.metrics.server_families import server_families
from ortolan.frontends.metrics.shown_version import shown
from ortolan.frontends.metrics.triton_counters import triton_counters
from ortolan.frontends.metrics.triton_latencies import triton_latencies

_log = logging.getLogger(__name__)
# Requests wait no longer than this for a page with a thousand models.
_LONGEST_TURN_S = 0.002
_SHORTEST_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """What the operator chose. ``visible_gpus`` is CUDA_VISIBLE_DEVICES."""

    config: MetricsConfig = field(default_factory=MetricsConfig)
    interval_s: float = 2.0
    cpu: bool = True
    gpu: bool = True
    visible_gpus: str | None = None


class MetricsPage:
    """Lives on the event loop."""

    def __init__(self, core: InferenceCore, options: MetricsOptions) -> None:
        self.core = core
        self._options = options
        self._machine = Machine() if options.cpu else None
        self._gpus = Gpus(options.visible_gpus) if options.gpu else None

    async def keep(self) -> None:
        """Look again and again at what can only be told of a stretch of time; until cancelled.

        Scrapes only read it, so that any number of scrapers are told the same.
        """
        while True:
            try:
                await self._look()
            # Whatever it was, what is told must not stand still in silence.
            except Exception:
                _log.exception("looking at the load failed in an unforeseen way; trying again later")
            await asyncio.sleep(max(self._options.interval_s, _SHORTEST_INTERVAL_S))

    async def _look(self) -> None:
        self.core.load_meter.look()
        if self._machine is not None:
            self._machine.look()
        if self._gpus is not None:
            await asyncio.to_thread(self._gpus.look)

    async def text(self) -> bytes:
        """In the text format 0.0.4.

        Raises Unavailable where other processes of the server do not answer: the numbers of this one alone would be
        taken for counters that began anew.
        """
        return await _joined(lines_of(self._families(await self.core.whole.told())))

    def _families(self, told: ToldServer) -> Iterator[Family]:
        config = self._options.config
        uuids = self._gpus.uuids if self._gpus is not None else {}
        versions = [shown(version, uuids) for version in told.versions]
        yield from triton_counters(versions, config.counters)
        yield from triton_latencies(versions, config.quantiles, int(time.time() * 1000))
        for device in (self._gpus, self._machine):
            if device is not None:
                yield from device.families()
        yield from model_families(versions, told.utilization)
        yield from server_families(told)
        yield from process_families(told)


async def _joined(lines: Iterable[str]) -> bytes:
    """All of them, letting others have the loop from time to time."""
    found, since_s = [], time.monotonic()
    for text in lines:
        found.append(text)
        if time.monotonic() - since_s > _LONGEST_TURN_S:
            await asyncio.sleep(0)
            since_s = time.monotonic()
    return "".join(found).encode()
