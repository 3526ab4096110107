"""Traces as Triton's files."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from ortolan.core.frontend_trace import FrontendTrace
from ortolan.core.trace import Trace, traced_parameters
from ortolan.core.trace_settings import TENSORS, TIMESTAMPS, TraceSettings
from ortolan.core.trace_writer import TraceFiles, TraceOutput, TraceWriter, require_writable
from ortolan.inference.request import InferenceRequest

NO_FILE = "trace file name is not given: start the server with --trace-config triton,file=PATH"


class FileTraces:
    """A sink whose traces are written in a thread."""

    follows_callers = False
    tells_of_refusals = False

    def __init__(self, path: Path) -> None:
        """Raises StartupError if ``path`` cannot be written."""
        require_writable(path, "--trace-config triton,file")
        self._files = TraceFiles(path)
        self._writer = TraceWriter()
        self._ids = count(1)

    def begun(
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

    def keeper(self, settings: TraceSettings) -> Callable[[Trace], None]:
        return partial(self._writer.put, TraceOutput(self._files, settings.log_frequency))

    def close(self) -> None:
        self._writer.close()
