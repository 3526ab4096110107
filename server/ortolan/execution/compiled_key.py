"""What a compiled model depends on: when any of it changes, it is another one."""

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from ortolan.execution.session_settings import SessionSettings

# 2: weights on 64 bytes.
_FORMAT = 2
# What tells processors apart for which the runtime lays weights out differently: x86-64's lines, then ARM's.
_TELLING = frozenset(
    (
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    )
)


@dataclass(frozen=True, slots=True)
class CompiledKey:
    """``runtime`` is ONNX Runtime's version and build, ``options`` what of a session changes its graph."""

    model_sha256: str
    runtime: str
    processor: str
    providers: tuple[str, ...]
    options: str

    @property
    def text(self) -> str:
        return repr((_FORMAT, self))

    @property
    def name(self) -> str:
        """A file name for it."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:40]


def options_of(settings: SessionSettings) -> str:
    """All of ``settings`` but what is of the server's own: better a model compiled twice than one that is another's."""
    own = SessionSettings()
    return repr(
        replace(
            settings,
            config_entries=dict(sorted(settings.config_entries.items())),
            arena_shrinkage=own.arena_shrinkage,
            allow_fallback=own.allow_fallback,
            max_execution_s=own.max_execution_s,
        )
    )


def processor_of(cpuinfo: str) -> str:
    """What ``cpuinfo``, the content of /proc/cpuinfo, says about the kind of processor; "" when it says nothing."""
    lines = {line for line in cpuinfo.splitlines() if line.partition(":")[0].strip() in _TELLING}
    return "\n".join(sorted(lines))


def this_processor() -> str:
    """The processor of this machine; "" where the system does not tell which instructions it has."""
    with contextlib.suppress(OSError):
        return processor_of(Path("/proc/cpuinfo").read_text())
    return ""
