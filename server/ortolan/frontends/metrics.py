"""Statistics → Prometheus, at scrape time: Triton's metric names and labels over the core's plain numbers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ortolan.core.inference_core import InferenceCore
from ortolan.core.model_version import ModelVersion


@dataclass(frozen=True, slots=True)
class _Series:
    """One metric with one sample for each version."""

    name: str
    kind: str
    help: str
    value: Callable[[ModelVersion], float]


def _microseconds(ns: int) -> float:
    return ns // 1000


# Triton's names have no _total, which prometheus_client's own counters would add.
_SERIES = (
    _Series(
        "nv_inference_request_success",
        "counter",
        "Number of successful inference requests, all batch sizes",
        lambda version: version.statistics.success.count,
    ),
    _Series(
        "nv_inference_count",
        "counter",
        "Number of inferences performed (does not include cached requests)",
        lambda version: version.statistics.inference_count,
    ),
    _Series(
        "nv_inference_exec_count",
        "counter",
        "Number of model executions performed (does not include cached requests)",
        lambda version: version.statistics.execution_count,
    ),
    _Series(
        "nv_inference_request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds",
        lambda version: _microseconds(version.statistics.success.ns),
    ),
    _Series(
        "nv_inference_queue_duration_us",
        "counter",
        "Cumulative inference queuing duration in microseconds",
        lambda version: _microseconds(version.statistics.queue.ns),
    ),
    _Series(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Cumulative compute input duration in microseconds",
        lambda version: _microseconds(version.statistics.compute_input.ns),
    ),
    _Series(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Cumulative compute inference duration in microseconds",
        lambda version: _microseconds(version.statistics.compute_infer.ns),
    ),
    _Series(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Cumulative inference compute output duration in microseconds",
        lambda version: _microseconds(version.statistics.compute_output.ns),
    ),
    _Series(
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
        lambda version: version.waiting_requests,
    ),
    _Series(
        "nv_model_load_duration_secs",
        "gauge",
        "Model load time in seconds",
        lambda version: version.statistics.load_duration_ns / 1e9,
    ),
)


class StatisticsCollector(Collector):
    """Reads the statistics of every ready version whenever Prometheus asks."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        versions = self._core.serving()
        for series in _SERIES:
            yield _metric(series, versions)
        yield _failures(versions)

    def describe(self) -> Iterable[Metric]:
        return ()


def _metric(series: _Series, versions: Iterable[ModelVersion]) -> Metric:
    metric = Metric(series.name, series.help, series.kind)
    for version in versions:
        metric.add_sample(series.name, _labels(version), series.value(version))
    return metric


def _failures(versions: Iterable[ModelVersion]) -> Metric:
    name = "nv_inference_request_failure"
    metric = Metric(name, "Number of failed inference requests, all batch sizes", "counter")
    for version in versions:
        for reason, count in version.statistics.failures.items():
            metric.add_sample(name, {**_labels(version), "reason": reason.value}, count)
    return metric


def _labels(version: ModelVersion) -> dict[str, str]:
    tags = {f"_{key}": value for key, value in version.config.metric_tags.items()}
    return {"model": version.name, "version": version.number_text, **tags}


def _routes(registry: CollectorRegistry) -> Iterator[Route]:
    async def page(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    yield Route("/metrics", page, methods=["GET"])


def metrics_app(core: InferenceCore) -> Starlette:
    """The application of the metrics port: ``GET /metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatisticsCollector(core))
    return Starlette(routes=list(_routes(registry)))
