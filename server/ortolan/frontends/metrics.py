"""Statistics → Prometheus, at scrape time: Triton's metric names and labels over the core's plain numbers.

Triton's metrics are written here, in Prometheus' text format 0.0.4: its counters carry no ``_total``, which
prometheus_client would add to the names in the TYPE lines, so that the types would be those of metrics that are not
there. What the process itself uses comes from prometheus_client.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ortolan.core.inference_core import InferenceCore
from ortolan.core.whole_server import ToldServer, ToldVersion
from ortolan.errors import Unavailable


@dataclass(frozen=True, slots=True)
class _Series:
    """One metric with one sample for each version."""

    name: str
    kind: str
    help: str
    value: Callable[[ToldVersion], float]


def _microseconds(ns: int) -> float:
    return ns // 1000


_SERIES = (
    _Series(
        "nv_inference_request_success",
        "counter",
        "Number of successful inference requests, all batch sizes",
        lambda told: told.numbers.statistics.success.count,
    ),
    _Series(
        "nv_inference_count",
        "counter",
        "Number of inferences performed (does not include cached requests)",
        lambda told: told.numbers.statistics.inference_count,
    ),
    _Series(
        "nv_inference_exec_count",
        "counter",
        "Number of model executions performed (does not include cached requests)",
        lambda told: told.numbers.statistics.execution_count,
    ),
    _Series(
        "nv_inference_request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds",
        lambda told: _microseconds(told.numbers.statistics.success.ns),
    ),
    _Series(
        "nv_inference_queue_duration_us",
        "counter",
        "Cumulative inference queuing duration in microseconds",
        lambda told: _microseconds(told.numbers.statistics.queue.ns),
    ),
    _Series(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Cumulative compute input duration in microseconds",
        lambda told: _microseconds(told.numbers.statistics.compute_input.ns),
    ),
    _Series(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Cumulative compute inference duration in microseconds",
        lambda told: _microseconds(told.numbers.statistics.compute_infer.ns),
    ),
    _Series(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Cumulative inference compute output duration in microseconds",
        lambda told: _microseconds(told.numbers.statistics.compute_output.ns),
    ),
    _Series(
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
        lambda told: told.numbers.waiting_requests,
    ),
    _Series(
        "nv_model_load_duration_secs",
        "gauge",
        "Model load time in seconds",
        lambda told: told.numbers.statistics.load_duration_ns / 1e9,
    ),
)

_CACHE_SERIES = (
    _Series(
        "nv_cache_num_hits_per_model",
        "counter",
        "Number of cache hits per model",
        lambda told: told.numbers.statistics.cache_hit.count,
    ),
    _Series(
        "nv_cache_num_misses_per_model",
        "counter",
        "Number of cache misses per model",
        lambda told: told.numbers.statistics.cache_miss.count,
    ),
    _Series(
        "nv_cache_hit_duration_per_model",
        "counter",
        "Total cache hit duration per model, in microseconds",
        lambda told: _microseconds(told.numbers.statistics.cache_hit.ns),
    ),
    _Series(
        "nv_cache_miss_duration_per_model",
        "counter",
        "Total cache miss duration per model, in microseconds",
        lambda told: _microseconds(told.numbers.statistics.cache_miss.ns),
    ),
)

_MEMORY_SERIES = _Series(
    "ortolan_model_memory_bytes",
    "gauge",
    "Memory that the version holds, as measured when it was loaded",
    lambda told: told.numbers.memory_bytes,
)
_FAILURES = "nv_inference_request_failure"
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metrics_app(core: InferenceCore) -> Starlette:
    """The application of the metrics port: ``GET /metrics``."""

    process = CollectorRegistry()
    ProcessCollector(registry=process)

    async def page(request: Request) -> Response:  # noqa: ARG001
        try:
            told = await core.whole.told()
        except Unavailable as error:
            # The numbers of this process alone would be taken for counters that began anew.
            return Response(error.message, 503)
        text = "".join([*_lines(told.versions), *_residency_lines(told), *_replica_lines(told)]).encode()
        if not told.replicas:
            text += generate_latest(process)
        closing = {"connection": "close"} if core.draining else {}
        return Response(text, headers={"content-type": _CONTENT_TYPE, **closing})

    return Starlette(routes=[Route("/metrics", page, methods=["GET"])])


def process_samples() -> list[tuple[str, str, str, float]]:
    """What this process uses: name, kind, explanation and value of each of its metrics, for another to tell."""
    families = ProcessCollector(registry=None).collect()
    return [(s.name, family.type, family.documentation, s.value) for family in families for s in family.samples]


def _lines(versions: Sequence[ToldVersion]) -> Iterator[str]:
    """The page, line by line: every metric with one sample for each ready version, those of the response cache only
    for versions that use it.
    """
    cached = [told for told in versions if told.version.keeps_answers]
    holding = [told for told in versions if told.version.loaded is not None]
    some = (*((each, cached) for each in _CACHE_SERIES), (_MEMORY_SERIES, holding))
    for series, shown in (*((each, versions) for each in _SERIES), *some):
        if shown or series in _SERIES:
            yield _heading(series.name, series.kind, series.help)
        for told in shown:
            yield _sample(series.name, _labels(told), series.value(told))
    yield _heading(_FAILURES, "counter", "Number of failed inference requests, all batch sizes")
    for told in versions:
        for reason, count in told.numbers.statistics.failures.items():
            yield _sample(_FAILURES, {**_labels(told), "reason": reason.value}, count)


def _residency_lines(told: ToldServer) -> Iterator[str]:
    """What all models hold, those that come and go as well, what they may hold, and how many were unloaded."""
    yield _heading("ortolan_models_memory_bytes", "gauge", "Memory that all models hold, also those on their way out")
    yield f"ortolan_models_memory_bytes {told.models_bytes}\n"
    if told.budget_bytes:
        yield _heading("ortolan_models_memory_budget_bytes", "gauge", "Memory that all models may hold")
        yield f"ortolan_models_memory_budget_bytes {told.budget_bytes}\n"
    yield _heading("ortolan_model_evictions", "counter", "Number of models that the server unloaded by itself")
    for reason in ("budget", "idle"):
        yield _sample("ortolan_model_evictions", {"reason": reason}, told.evictions.get(reason, 0))


def _replica_lines(told: ToldServer) -> Iterator[str]:
    """What each of several processes uses. Memory is not added up, because they share a part of it."""
    if not told.replicas:
        return
    yield _heading("ortolan_replicas", "gauge", "Number of processes that serve")
    yield f"ortolan_replicas {len(told.replicas)}\n"
    yield _heading("ortolan_replica_restarts", "counter", "Number of processes that ended and were begun anew")
    yield f"ortolan_replica_restarts {told.restarts}\n"
    headings = {name: (kind, text) for samples in told.replicas.values() for name, kind, text, _ in samples}
    for heading, (kind, text) in headings.items():
        yield _heading(heading, kind, text)
        for number, samples in sorted(told.replicas.items()):
            yield from (_sample(name, {"replica": number}, value) for name, _, _, value in samples if name == heading)


def _labels(told: ToldVersion) -> dict[str, str]:
    version = told.version
    tags = {f"_{key}": value for key, value in version.config.metric_tags.items()}
    return {"model": version.name, "version": version.number_text, **tags}


def _heading(name: str, kind: str, explanation: str) -> str:
    return f"# HELP {name} {explanation}\n# TYPE {name} {kind}\n"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    text = ",".join(f'{key}="{content.translate(_ESCAPES)}"' for key, content in labels.items())
    return f"{name}{{{text}}} {value}\n"
