"""Which requests are traced, and where their traces go. Lives on the event loop."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from ortolan.core.trace import Trace, traced_parameters
from ortolan.core.trace_settings import ALL_MODELS, TENSORS, TIMESTAMPS, TraceSettings, TraceTable
from ortolan.core.trace_writer import TraceFiles, TraceOutput, TraceWriter, require_writable
from ortolan.errors import InvalidArgument
from ortolan.inference.request import InferenceRequest

_log = logging.getLogger(__name__)
_NO_FILE = "trace file name is not given: start the server with --trace-config triton,file=PATH"

HTTP = ("HTTP_RECV", "HTTP_SEND")
"""What Triton calls receiving and sending over HTTP."""
GRPC = ("GRPC_WAITREAD", "GRPC_SEND")


class FrontendTrace:
    """When a frontend received a request and sent its answer. Made only while something is traced.

    The core adds the trace, if the request is one of those that are traced.
    """

    def __init__(self, names: tuple[str, str]) -> None:
        """``names`` are ``HTTP`` or ``GRPC``; receiving begins now."""
        self._receiving, self._sending = names
        self._receive_start_ns = time.monotonic_ns()
        self._receive_end_ns = 0
        self._send_start_ns = 0
        self._waiting: list[tuple[Trace, Callable[[Trace], None]]] = []

    def received(self) -> None:
        """The whole request is there."""
        self._receive_end_ns = time.monotonic_ns()

    def begin(self, trace: Trace) -> None:
        """The core traces the request."""
        trace.at(f"{self._receiving}_START", self._receive_start_ns)
        trace.at(f"{self._receiving}_END", self._receive_end_ns or time.monotonic_ns())

    def end_later(self, trace: Trace, keep: Callable[[Trace], None]) -> None:
        """Have ``keep`` called with ``trace`` once the answer has been sent."""
        self._waiting.append((trace, keep))

    def sending(self) -> None:
        """The answer begins to be sent."""
        self._send_start_ns = time.monotonic_ns()

    def sent(self) -> None:
        """The whole answer has been handed to the connection, or will not be."""
        end_ns = time.monotonic_ns()
        for trace, keep in self._waiting:
            trace.at(f"{self._sending}_START", self._send_start_ns or end_ns)
            trace.at(f"{self._sending}_END", end_ns)
            keep(trace)
        self._waiting = []


class _Sampler:
    """Chooses every so manieth request, for one setting and until its count is used up."""

    def __init__(self, settings: TraceSettings, output: TraceOutput) -> None:
        self.settings = settings
        self.output = output
        self.count_left = settings.count
        self._seen = 0

    @property
    def active(self) -> bool:
        return bool(self.settings.level) and self.count_left != 0

    def takes_next(self) -> bool:
        if not self.active:
            return False
        self._seen += 1
        if self._seen % self.settings.rate:
            return False
        if self.count_left > 0:
            self.count_left -= 1
        return True


class Tracing:
    """The trace settings as they are now, and the traces of the requests that they choose."""

    def __init__(self, operator: TraceSettings, suffix: str = "") -> None:
        """``operator``: what holds until a client changes it; ``suffix`` is added to the names of its files.

        Raises StartupError if its file cannot be written.
        """
        path = Path(operator.file + suffix)
        if operator.file:
            require_writable(path, "--trace-config triton,file")
        self._table = TraceTable(operator)
        self._files = TraceFiles(path) if operator.file else None
        self._writer = TraceWriter()
        self._samplers: dict[str, _Sampler] = {}
        self._ids = count(1)
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

        Raises as ``TraceTable.changed`` does, and InvalidArgument when something is to be traced without a file for it.
        """
        if not change:
            return
        table = self._table.changed(model, change)
        if self._files is None and "trace_level" in change and table.of(model).level:
            raise InvalidArgument(_NO_FILE)
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
        if self._files is None:
            if any(settings.level for settings in wanted.values()):
                _log.warning("nothing is traced: start the server with --trace-config triton,file=PATH to say where to")
            return
        self._samplers = {
            name: self._kept_sampler(name, settings)
            or _Sampler(settings, TraceOutput(self._files, settings.log_frequency))
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

    @contextlib.contextmanager
    def following(
        self, request: InferenceRequest, version: int, frontend: FrontendTrace | None
    ) -> Iterator[Trace | None]:
        """Trace what the block does for ``request``, if it is one of those that are traced; None for the others.

        ``version`` answers it. The trace of an answer ends when ``frontend`` has sent it, that of an error with it.
        """
        sampler = self._sampler(request.model_name)
        if sampler is None or not sampler.takes_next():
            yield None
            return
        self._look()
        trace = self._begun(request, version, sampler.settings, frontend)
        answered = False
        try:
            yield trace
            answered = True
            trace.at("INFER_RESPONSE_COMPLETE", time.monotonic_ns())
        finally:
            trace.at("REQUEST_END", time.monotonic_ns())
            keep = partial(self._writer.put, sampler.output)
            if answered and frontend is not None:
                frontend.end_later(trace, keep)
            else:
                keep(trace)

    def _begun(
        self, request: InferenceRequest, version: int, settings: TraceSettings, frontend: FrontendTrace | None
    ) -> Trace:
        trace = Trace(
            id=next(self._ids),
            model_name=request.model_name,
            model_version=version,
            request_id=request.id,
            parameters=traced_parameters(request.parameters),
            with_times=TIMESTAMPS in settings.level,
            with_tensors=TENSORS in settings.level,
        )
        if frontend is not None:
            frontend.begin(trace)
        trace.at("REQUEST_START", time.monotonic_ns())
        return trace

    def close(self) -> None:
        """Return when every trace is written. Blocks, on a disk that hangs for seconds."""
        self._writer.close()
