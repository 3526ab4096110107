"""What becomes of models that nobody asks: their arenas give memory back, and after longer they are unloaded.

A run keeps the memory for its intermediate results for the next one. After a burst of large requests that is many times
the model; a run with ONNX Runtime's shrinkage, which is ended before its first node, gives it back. With every run it
would cost more than it saves: 18 ms became 80 ms, where 264 MB were given back and had again each time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from ortolan.core.evictions import Evictions, used_s
from ortolan.core.memory_plan import Hold
from ortolan.core.model_records import Model
from ortolan.core.served_version import ServedVersion

_log = logging.getLogger(__name__)

IDLE_UNLOAD_SECS = "idle_unload_secs"
"""The model parameter: after how long without requests the model is unloaded; 0 for never."""
_LONGEST_LOOK_S = 1.0


class IdleModels:
    """Looks after models that are not asked. Lives on the event loop; memory is given back in threads."""

    def __init__(
        self,
        models: Mapping[str, Model],
        evictions: Evictions,
        unload_after_s: float,
        shrink_after_s: float,
        give_back: Callable[[], None],
    ) -> None:
        """0 s: never. Models may say for themselves when they are to be unloaded. ``give_back`` lets the system have
        what the heap keeps.
        """
        self._models = models
        self._evictions = evictions
        self._unload_after_s = unload_after_s
        self._shrink_after_s = shrink_after_s
        self._give_back = give_back
        self._shrunk_s: dict[object, float] = {}

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(_LONGEST_LOOK_S)
            try:
                await self.look(asyncio.get_running_loop().time())
            # Whatever one model's run came to, the others are looked after.
            except Exception:
                _log.exception("looking after idle models failed in an unforeseen way; trying again later")

    async def look(self, now_s: float) -> None:
        """Unload what has been idle for too long at ``now_s``, by the loop's clock, and let the others give back."""
        if self._evictions.on_demand:
            for model in tuple(self._models.values()):
                self._unload_if_idle(model, now_s)
        if self._shrink_after_s:
            await self._shrink_idle(now_s)

    def _unload_if_idle(self, model: Model, now_s: float) -> None:
        limit_s = self._limit_s(model)
        # One without memory of its own, an ensemble, goes with its models.
        has_memory = any(version.loaded is not None for version in model.serving())
        if not has_memory or not limit_s or now_s - used_s(model) < limit_s:
            return
        if self._evictions.hold_of(model) is Hold.IDLE:
            self._evictions.time_out(model.name, limit_s)

    def _limit_s(self, model: Model) -> float:
        """What the model says itself, or the operator for all."""
        version = model.newest
        own = version.config.parameters.get(IDLE_UNLOAD_SECS) if version else None
        return self._unload_after_s if own is None else float(own)

    async def _shrink_idle(self, now_s: float) -> None:
        versions = [version for model in self._models.values() for version in model.serving()]
        idle = [version for version in versions if self._may_shrink(version, now_s)]
        kept = {version.identity for version in versions}
        self._shrunk_s = {identity: at_s for identity, at_s in self._shrunk_s.items() if identity in kept}
        for version in idle:
            self._shrunk_s[version.identity] = version.used_s
        if idle:
            await asyncio.to_thread(_shrink, idle, self._give_back)

    def _may_shrink(self, version: ServedVersion, now_s: float) -> bool:
        """Whether the version is idle, and has run since its memory was last given back."""
        if version.loaded is None or version.in_flight_requests or now_s - version.used_s < self._shrink_after_s:
            return False
        return self._shrunk_s.get(version.identity) != version.used_s


def _shrink(versions: list[ServedVersion], give_back: Callable[[], None]) -> None:
    for version in versions:
        if version.loaded is not None:
            for session in {id(session): session for _, session, _ in version.loaded.instances}.values():
                session.shrink_arena()
    give_back()
