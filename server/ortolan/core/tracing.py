"""Which requests are traced, and by whom their traces are kept. Lives on the event loop."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ortolan.core.file_traces import NO_FILE, FileTraces
from ortolan.core.frontend_trace import GRPC, HTTP, FrontendTrace
from ortolan.core.trace import Trace
from ortolan.core.trace_settings import ALL_MODELS, TraceSettings, TraceTable
from ortolan.core.trace_sink import TraceSink
from ortolan.errors import InvalidArgument
from ortolan.inference.request import InferenceRequest

__all__ = ["GRPC", "HTTP", "FrontendTrace", "Tracing"]

_log = logging.getLogger(__name__)


class _Sampler:
    """Chooses every so manieth request, for one setting and until its count is used up."""

    def __init__(self, settings: TraceSettings, keep: Callable[[Trace], None], follows_callers: bool) -> None:
        self.settings = settings
        self.keep = keep
        self.count_left = settings.count
        self._follows_callers = follows_callers
        self._seen = 0

    @property
    def active(self) -> bool:
        return bool(self.settings.level) and (self.count_left != 0 or self._follows_callers)

    @property
    def chooses_next(self) -> bool:
        """Whether the next request would be traced, if its caller does not trace it."""
        rate = self.settings.rate
        return bool(self.settings.level and self.count_left and rate) and not (self._seen + 1) % rate

    def takes(self, frontend: FrontendTrace | None) -> bool:
        """Whether this request is traced. One whose caller traces it neither counts nor is counted."""
        if self._follows_callers and frontend is not None and frontend.parent is not None and frontend.parent.sampled:
            return bool(self.settings.level)
        chosen = self.chooses_next
        self.count_one()
        if chosen and self.count_left > 0:
            self.count_left -= 1
        return chosen

    def count_one(self) -> None:
        """A request came that is not traced by its caller."""
        if self.settings.level and self.count_left:
            self._seen += 1


class Tracing:
    """The trace settings as they are now, and the traces of the requests that they choose."""

    def __init__(
        self, operator: TraceSettings, suffix: str = "", sink: TraceSink | None = None, refusal: str = NO_FILE
    ) -> None:
        """``operator``: what holds until a client changes it.

        Without a ``sink`` traces are written to the operator's file, with ``suffix`` added to its name; without that
        file nothing can be traced, and ``refusal`` says why. Raises StartupError if it cannot be written.
        """
        if sink is None and operator.file:
            sink = FileTraces(Path(operator.file + suffix))
        self._sink = sink
        self._refusal = refusal
        self._table = TraceTable(operator)
        self._samplers: dict[str, _Sampler] = {}
        self.follows_callers = sink is not None and sink.follows_callers
        """Whether a request is traced because its caller traces it."""
        self.on = False
        """Whether any request may be traced: what the hot path looks at."""
        self._follow()

    # -- settings ------------------------------------------------------------------------------------------------

    def settings(self, model: str) -> TraceSettings:
        """The settings for ``model``, or for all with ``ALL_MODELS``; ``count`` is what is left of it."""
        settings = self._table.of(model)
        sampler = self._sampler(model)
        return replace(settings, count=sampler.count_left) if sampler else settings

    def change(self, model: str, change: Mapping[str, object]) -> None:
        """Change the settings of ``model``, or those of all, and count anew.

        Raises as ``TraceTable.changed`` does, and InvalidArgument when something is to be traced and nothing can be.
        """
        if not change:
            return
        table = self._table.changed(model, change)
        if self._sink is None and "trace_level" in change and table.of(model).level:
            raise InvalidArgument(self._refusal)
        self._table = table
        self._samplers.pop(model, None)
        self._follow()
        _log.info("trace settings of %s changed: %s", model or "all models", self._table.of(model))

    def forget_others(self, knows: Callable[[str], bool]) -> None:
        """Keep of single models' settings those of models that ``knows`` says are there."""
        table = self._table.without_others(knows)
        if table is not self._table:
            self._table = table
            self._follow()

    def _follow(self) -> None:
        """Let samplers follow the table: those whose settings stay the same go on counting where they are."""
        wanted = {name: self._table.of(name) for name in (ALL_MODELS, *self._table.own)}
        if self._sink is None:
            if any(settings.level for settings in wanted.values()):
                _log.warning("nothing is traced: %s", self._refusal)
            return
        self._samplers = {
            name: self._kept_sampler(name, settings)
            or _Sampler(settings, self._sink.keeper(settings), self.follows_callers)
            for name, settings in wanted.items()
        }
        self._look()

    def _kept_sampler(self, name: str, settings: TraceSettings) -> _Sampler | None:
        sampler = self._samplers.get(name)
        return sampler if sampler and sampler.settings == settings else None

    def _look(self) -> None:
        self.on = any(sampler.active for sampler in self._samplers.values())

    def _sampler(self, model: str) -> _Sampler | None:
        return self._samplers.get(model) or self._samplers.get(ALL_MODELS)

    # -- requests ------------------------------------------------------------------------------------------------

    def chooses_next(self, model: str) -> bool:
        """Whether the next request to ``model`` would be traced, if its caller does not trace it."""
        sampler = self._sampler(model)
        return sampler is not None and sampler.chooses_next

    def passes_over(self, model: str) -> bool:
        """Count a request to ``model`` that its caller does not trace, if it is not to be traced; whether it is not."""
        sampler = self._sampler(model)
        if sampler is None:
            return True
        if sampler.chooses_next:
            return False
        sampler.count_one()
        return True

    @contextlib.contextmanager
    def following(
        self, request: InferenceRequest, version: int, frontend: FrontendTrace | None
    ) -> Iterator[Trace | None]:
        """Trace what the block does for ``request``, if it is one of those that are traced; None for the others.

        ``version`` answers it. The trace of an answer ends when ``frontend`` has sent it, that of an error with it, or
        when the sink says so as well.
        """
        sampler = self._sampler(request.model_name)
        if self._sink is None or sampler is None or not sampler.takes(frontend):
            yield None
            return
        self._look()
        trace = self._sink.begun(request, version, sampler.settings, frontend)
        answered = False
        try:
            yield trace
            answered = True
            trace.at("INFER_RESPONSE_COMPLETE", time.monotonic_ns())
        except BaseException as error:
            trace.failed(error)
            raise
        finally:
            trace.at("REQUEST_END", time.monotonic_ns())
            if frontend is not None and (answered or self._sink.tells_of_refusals):
                frontend.end_later(trace, sampler.keep)
            else:
                sampler.keep(trace)

    def close(self) -> None:
        """Return when every trace is kept. Blocks, on a disk that hangs or for a receiver that does for seconds."""
        if self._sink is not None:
            self._sink.close()
