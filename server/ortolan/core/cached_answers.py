"""One version's answers out of the response cache, and into it. Lives on the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ortolan.core.response_cache import CacheKey, KeptAnswer, ResponseCache, are_small, digest_of, kept
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.inference.request import InferenceRequest, InferenceResponse, ResponseTiming, Tensor

_HIT = ResponseTiming(0, 0, 0)


class CachedAnswers:
    """Answers what was answered before. Requests that are alike and inside together each run: no one waits."""

    def __init__(
        self,
        cache: ResponseCache,
        name: str,
        number_text: str,
        identity: object,
        statistics: ModelStatistics,
        all_outputs: Sequence[str],
    ) -> None:
        """``all_outputs`` are what a request gets that names none, in their order."""
        self._cache = cache
        self._name = name
        self._number_text = number_text
        self._identity = identity
        self._statistics = statistics
        self._all_outputs = tuple(all_outputs)

    async def infer(
        self, request: InferenceRequest, run: Callable[[], Awaitable[InferenceResponse]]
    ) -> InferenceResponse:
        """The answer to ``request``, which has been checked: the one that is kept, or that of ``run``, which is then.

        Only answers are kept, no errors. A request that belongs to a sequence is always run.
        """
        if request.parameters.get("sequence_id"):
            return await run()
        start_ns = time.monotonic_ns()
        key = CacheKey(self._identity, await _digest(request, self._all_outputs))
        outputs = self._cache.find(key)
        lookup_ns = time.monotonic_ns() - start_ns
        if outputs is not None:
            self._statistics.count_cache_hit(lookup_ns, int(time.time() * 1000))
            ordered = self._in_order_of(request, outputs)
            return InferenceResponse(self._name, self._number_text, request.id, ordered, timing=_HIT)
        response = await run()
        start_ns = time.monotonic_ns()
        if answer := await _kept(response.outputs, self._cache.max_bytes):
            self._cache.keep(key, answer)
        self._statistics.count_cache_miss(lookup_ns + time.monotonic_ns() - start_ns, int(time.time() * 1000))
        return response

    def _in_order_of(self, request: InferenceRequest, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``outputs`` as ``request`` lists them: they may be kept since another one, in whose order they are."""
        names = tuple(output.name for output in request.outputs) or self._all_outputs
        by_name = {output.name: output for output in outputs}
        return tuple(by_name[name] for name in names)

    def forget(self) -> None:
        """Let go of this version's answers, which nobody can ask for any more: of many of them by and by."""
        if self._cache.forget(self._identity):
            asyncio.get_running_loop().call_soon(self.forget)


async def _digest(request: InferenceRequest, all_outputs: Sequence[str]) -> bytes:
    if are_small(request.inputs):
        return digest_of(request, all_outputs)
    return await asyncio.to_thread(digest_of, request, all_outputs)


async def _kept(outputs: Sequence[Tensor], max_bytes: int) -> KeptAnswer | None:
    if are_small(outputs):
        return kept(outputs, max_bytes)
    return await asyncio.to_thread(kept, outputs, max_bytes)
