"""``/v2/models``: metadata, readiness, configuration and statistics of models."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from ortolan.core.ensemble_version import BATCHED_BY_STEPS
from ortolan.core.inference_core import InferenceCore, TensorMetadata
from ortolan.core.served_version import ServedVersion
from ortolan.core.whole_server import ToldVersion
from ortolan.execution.cost_curve import gain
from ortolan.execution.latencies import Latencies
from ortolan.execution.model_statistics import BatchSizeStatistics, Duration
from ortolan.frontends.rest.bodies import (
    BatchingBody,
    BatchStatisticsBody,
    CurvePointBody,
    DurationBody,
    ErrorBody,
    InferenceStatisticsBody,
    MemoryUsageBody,
    ModelMetadataBody,
    ModelNamesBody,
    ModelReadyBody,
    ModelStatisticsBody,
    StatisticsBody,
    TensorMetadataBody,
)
from ortolan.frontends.rest.json_response import json_response

_MODEL = "/v2/models/{model_name}"
_VERSION = _MODEL + "/versions/{model_version}"
_ModelEndpoint = Callable[[str, str], Awaitable[Response]]
_Responses = dict[int | str, dict[str, Any]]
_NOT_FOUND: _Responses = {404: {"model": ErrorBody, "description": "No such model or version"}}
_NOT_READY: _Responses = {503: {"model": ErrorBody, "description": "The version is there but not ready"}}


def router(core: InferenceCore) -> APIRouter:
    routes = APIRouter(tags=["models"])

    # KServe's, not Triton's.
    @routes.get("/v2/models", summary="The models that can be asked", response_model=ModelNamesBody)
    async def model_names() -> Response:
        return json_response(ModelNamesBody(models=core.model_names()))

    # Before /v2/models/{model_name}, which would take "stats" for a model's name.
    @routes.get("/v2/models/stats", summary="Statistics of every ready version", response_model=StatisticsBody)
    async def all_statistics() -> Response:
        return _statistics(await core.whole.statistics("", ""))

    _add_model_routes(routes, core)
    return routes


def _add_model_routes(routes: APIRouter, core: InferenceCore) -> None:
    """The four routes of a model; without a version in the path they speak of the newest ready one."""

    async def metadata(model_name: str, model_version: str) -> Response:
        found = await core.model_metadata(model_name, model_version)
        return json_response(
            ModelMetadataBody(
                name=found.name,
                versions=list(found.versions),
                platform=found.platform,
                inputs=[_tensor(tensor) for tensor in found.inputs],
                outputs=[_tensor(tensor) for tensor in found.outputs],
                properties=dict(found.properties),
            )
        )

    async def ready(model_name: str, model_version: str) -> Response:
        found = core.model_ready(model_name, model_version)
        return json_response(ModelReadyBody(name=model_name, ready=found), 200 if found else 400)

    async def config(model_name: str, model_version: str) -> Response:
        found = await core.model_config_json(model_name, model_version)
        return Response(orjson.dumps(found), media_type="application/json")

    async def statistics(model_name: str, model_version: str) -> Response:
        return _statistics(await core.whole.statistics(model_name, model_version))

    unready: _Responses = {400: {"model": ModelReadyBody | ErrorBody, "description": "Not ready"}}
    unavailable: _Responses = {400: {"model": ErrorBody, "description": "The model or the version is not available"}}
    for answer, tail, summary, body, responses in (
        (metadata, "", "Metadata", ModelMetadataBody, _NOT_FOUND | _NOT_READY),
        (ready, "/ready", "Readiness", ModelReadyBody, _NOT_FOUND | unready),
        (config, "/config", "Configuration", dict[str, object], _NOT_FOUND | _NOT_READY),
        (statistics, "/stats", "Statistics", StatisticsBody, unavailable),
    ):
        for path, suffix, endpoint in ((_MODEL, "", _of_newest(answer)), (_VERSION, " version", answer)):
            routes.add_api_route(
                path + tail,
                endpoint,
                methods=["GET"],
                summary=f"{summary} of a model{suffix}",
                response_model=body,
                responses=responses,
                name=f"model{suffix.replace(' ', '_')}{tail.replace('/', '_') or '_metadata'}",
            )


def _of_newest(answer: _ModelEndpoint) -> Callable[[str], Awaitable[Response]]:
    """``answer`` for paths without a version. With a default there, FastAPI would take the version from the query."""

    async def answer_for_newest(model_name: str) -> Response:
        return await answer(model_name, "")

    return answer_for_newest


def _tensor(tensor: TensorMetadata) -> TensorMetadataBody:
    return TensorMetadataBody(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))


def _statistics(versions: list[ToldVersion]) -> Response:
    return json_response(StatisticsBody(model_stats=[_version_statistics(version) for version in versions]))


def _version_statistics(told: ToldVersion) -> ModelStatisticsBody:
    version, numbers = told.version, told.numbers.statistics
    return ModelStatisticsBody(
        name=version.name,
        version=version.number_text,
        last_inference=numbers.last_inference_ms,
        inference_count=numbers.inference_count,
        execution_count=numbers.execution_count,
        inference_stats=InferenceStatisticsBody(
            success=_duration(numbers.success),
            fail=_duration(numbers.fail),
            queue=_duration(numbers.queue),
            compute_input=_duration(numbers.compute_input),
            compute_infer=_duration(numbers.compute_infer),
            compute_output=_duration(numbers.compute_output),
            cache_hit=_duration(numbers.cache_hit),
            cache_miss=_duration(numbers.cache_miss),
        ),
        response_stats={},
        batch_stats=[_batch(size, batch) for size, batch in sorted(numbers.batches.items())],
        memory_usage=_memory(told.numbers.memory_bytes),
        batching=_batching(version),
    )


def _memory(size_bytes: int) -> list[MemoryUsageBody]:
    return [MemoryUsageBody(type="CPU", id=0, byte_size=size_bytes)] if size_bytes else []


def _batching(version: ServedVersion) -> BatchingBody:
    if version.loaded is None:
        return BatchingBody(reason=BATCHED_BY_STEPS, max_rows=0, batch_invariance="untested", gain=1.0, curve=[])
    plan, profile = version.loaded.plan, version.loaded.profile
    points = plan.curves.base.points if plan.curves else []
    return BatchingBody(
        reason=plan.batching.reason,
        max_rows=plan.batching.max_rows,
        batch_invariance=profile.invariance,
        gain=round(gain(points), 3) if points else 1.0,
        curve=[CurvePointBody(rows=point.rows, duration_ns=point.duration_ns) for point in points],
    )


def _batch(size: int, batch: BatchSizeStatistics) -> BatchStatisticsBody:
    return BatchStatisticsBody(
        batch_size=size,
        compute_input=_duration(batch.compute_input),
        compute_infer=_duration(batch.compute_infer),
        compute_output=_duration(batch.compute_output),
    )


def _duration(duration: Duration | Latencies) -> DurationBody:
    return DurationBody(count=duration.count, ns=duration.ns)
