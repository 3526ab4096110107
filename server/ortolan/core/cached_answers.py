"""One version's answers out of the response cache, and into it. Lives on the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from ortolan.core.response_cache import CacheKey, ResponseCache, digest_of, size_of
from ortolan.execution.model_statistics import ModelStatistics
from ortolan.inference.request import InferenceRequest, InferenceResponse, ResponseTiming

# So much is hashed in about a millisecond; more than that would hold up the loop.
_QUICK_BYTES = 1 << 20
_HIT = ResponseTiming(0, 0, 0)


class CachedAnswers:
    """Answers what was answered before. Requests that are alike and inside together each run: no one waits."""

    def __init__(
        self, cache: ResponseCache, name: str, number_text: str, identity: object, statistics: ModelStatistics
    ) -> None:
        self._cache = cache
        self._name = name
        self._number_text = number_text
        self._identity = identity
        self._statistics = statistics

    async def infer(
        self, request: InferenceRequest, run: Callable[[], Awaitable[InferenceResponse]]
    ) -> InferenceResponse:
        """The answer to ``request``, which has been checked: the one that is kept, or that of ``run``, which is then.

        Only answers are kept, no errors. A request that belongs to a sequence is always run.
        """
        if request.parameters.get("sequence_id"):
            return await run()
        start_ns = time.monotonic_ns()
        key = CacheKey(self._identity, await _digest(request))
        outputs = self._cache.find(key)
        lookup_ns = time.monotonic_ns() - start_ns
        if outputs is not None:
            self._statistics.count_cache_hit(lookup_ns, int(time.time() * 1000))
            return InferenceResponse(self._name, self._number_text, request.id, outputs, timing=_HIT)
        response = await run()
        start_ns = time.monotonic_ns()
        self._cache.keep(key, response.outputs)
        self._statistics.cache_miss.add(lookup_ns + time.monotonic_ns() - start_ns)
        return response

    def forget(self) -> None:
        """Let go of this version's answers, which nobody can ask for any more."""
        self._cache.forget(self._identity)


async def _digest(request: InferenceRequest) -> bytes:
    if size_of(request) <= _QUICK_BYTES:
        return digest_of(request)
    return await asyncio.to_thread(digest_of, request)
