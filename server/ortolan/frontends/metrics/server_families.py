"""Our metrics of the server as a whole: its load, its readiness, its models, its memory, its errors, its replicas."""

import platform
from collections.abc import Iterator

from ortolan import __version__
from ortolan.core.version_state import VersionState
from ortolan.core.whole_server import ToldServer
from ortolan.execution.session import RUNTIME_VERSION
from ortolan.frontends.metrics.exposition import Family, Kind, label_text, sample

_STATES = (VersionState.READY, VersionState.LOADING, VersionState.UNLOADING, VersionState.UNAVAILABLE)
_EVICTIONS = ("budget", "idle")


def server_families(told: ToldServer) -> Iterator[Family]:
    yield _single(
        "ortolan_utilization",
        "gauge",
        "Part of the server that is in use, 0 to 1: the number to scale on",
        round(told.utilization.server, 6),
    )
    yield _single("ortolan_ready", "gauge", "Whether requests should be sent here: 1 or 0", int(told.is_ready))
    states = {state.value.lower(): told.states.get(state.value, 0) for state in _STATES}
    yield _by("ortolan_model_versions", "gauge", "Versions of models by their state", "state", states)
    yield _errors(told)
    yield from _memory(told)
    build = {"version": __version__, "onnxruntime": RUNTIME_VERSION, "python": platform.python_version()}
    name = "ortolan_build_info"
    yield Family(name, "gauge", "What is running; always 1", [sample(name, 1, label_text(build))])


def _errors(told: ToldServer) -> Family:
    name = "ortolan_error_responses_total"
    lines = [
        sample(name, count, label_text({"protocol": protocol, "code": code}))
        for protocol, counts in told.errors.items()
        for code, count in sorted(counts.items())
    ]
    return Family(name, "counter", "Refusals and errors that clients were told, by protocol and code", lines)


def _memory(told: ToldServer) -> Iterator[Family]:
    held = "Memory that all models hold, also those on their way out"
    yield _single("ortolan_models_memory_bytes", "gauge", held, told.models_bytes)
    if told.budget_bytes:
        yield _single(
            "ortolan_models_memory_budget_bytes", "gauge", "Memory that all models may hold", told.budget_bytes
        )
    counts = {reason: told.evictions.get(reason, 0) for reason in _EVICTIONS}
    yield _by("ortolan_model_evictions_total", "counter", "Models that the server unloaded by itself", "reason", counts)


def _single(name: str, kind: Kind, explanation: str, value: float) -> Family:
    return Family(name, kind, explanation, [sample(name, value)])


def _by(name: str, kind: Kind, explanation: str, label: str, values: dict[str, int]) -> Family:
    lines = [sample(name, value, f'{label}="{each}"') for each, value in values.items()]
    return Family(name, kind, explanation, lines)
