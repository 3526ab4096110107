"""``/v2/systemsharedmemory`` and ``/v2/cudasharedmemory``: memory in which clients exchange tensors with the server."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from ortolan.core.cuda_region import CudaRegion
from ortolan.core.inference_core import InferenceCore
from ortolan.core.memory_region import MemoryRegion
from ortolan.core.system_region import SystemRegion
from ortolan.errors import InvalidArgument
from ortolan.frontends.rest.bodies import ErrorBody
from ortolan.frontends.rest.body_limits import BodyLimit
from ortolan.frontends.rest.json_body import read_json_object
from ortolan.frontends.rest.shared_memory_bodies import (
    CudaRegionBody,
    CudaRegionRequestBody,
    SystemRegionBody,
    SystemRegionRequestBody,
)
from ortolan.protocol.json_fields import object_member, text_member, whole_number_member

_REGION = "/region/{region_name}"
_REQUEST = "the request"
_Responses = dict[int | str, dict[str, Any]]
_NOT_FOUND: _Responses = {404: {"model": ErrorBody, "description": "No such region"}}
_DISABLED: _Responses = {501: {"model": ErrorBody, "description": "Clients may not use shared memory"}}
_REFUSED: _Responses = {
    400: {"model": ErrorBody, "description": "The name is taken, or the memory cannot be used as the request says"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    415: {"model": ErrorBody, "description": "The body's Content-Encoding is not known"},
    503: {"model": ErrorBody, "description": "Too many regions are registered"},
}


def router(core: InferenceCore, limit: BodyLimit) -> APIRouter:
    routes = APIRouter(tags=["shared memory"])
    whole = core.whole

    async def register_system(region_name: str, request: Request) -> Response:
        fields = await read_json_object(request, limit)
        key = text_member(fields, "key", _REQUEST)
        offset = whole_number_member(fields, "offset", _REQUEST) if "offset" in fields else 0
        await whole.register_system(region_name, key, offset, whole_number_member(fields, "byte_size", _REQUEST))
        return Response()

    async def register_cuda(region_name: str, request: Request) -> Response:
        fields = await read_json_object(request, limit)
        handle = _decoded(text_member(object_member(fields, "raw_handle", _REQUEST), "b64", "'raw_handle'"))
        device = whole_number_member(fields, "device_id", _REQUEST)
        await whole.register_cuda(region_name, handle, device, whole_number_member(fields, "byte_size", _REQUEST))
        return Response()

    _add_register(routes, SystemRegion, register_system, SystemRegionRequestBody)
    _add_register(routes, CudaRegion, register_cuda, CudaRegionRequestBody)
    _add_status(routes, core, SystemRegion, list[SystemRegionBody])
    _add_status(routes, core, CudaRegion, list[CudaRegionBody])
    _add_unregister(routes, core, SystemRegion)
    _add_unregister(routes, core, CudaRegion)
    return routes


def _add_register(
    routes: APIRouter,
    kind: type[MemoryRegion],
    answer: Callable[[str, Request], Awaitable[Response]],
    body: type[BaseModel],
) -> None:
    routes.add_api_route(
        f"/v2/{kind.kind}sharedmemory{_REGION}/register",
        answer,
        methods=["POST"],
        summary=f"Register a region of {kind.kind} shared memory",
        response_class=Response,
        responses=_REFUSED | _DISABLED,
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}
        },
    )


def _add_status(routes: APIRouter, core: InferenceCore, kind: type[MemoryRegion], body: Any) -> None:
    """Both routes give a list, with one region in it where the path names it."""

    async def status(region_name: str) -> Response:
        told = [_told(region) for region in core.shared_memory.status(kind, region_name)]
        return Response(orjson.dumps(told), media_type="application/json")

    async def status_of_all() -> Response:
        return await status("")

    for tail, answer, what, responses in (
        ("", status_of_all, "All regions", {}),
        (_REGION, status, "A region", _NOT_FOUND),
    ):
        routes.add_api_route(
            f"/v2/{kind.kind}sharedmemory{tail}/status",
            answer,
            methods=["GET"],
            summary=f"{what} of {kind.kind} shared memory",
            response_model=body,
            responses=responses,
            name=f"{kind.kind}_{answer.__name__}",
        )


def _add_unregister(routes: APIRouter, core: InferenceCore, kind: type[MemoryRegion]) -> None:
    async def unregister(region_name: str) -> Response:
        await core.whole.unregister(kind, region_name)
        return Response()

    async def unregister_all() -> Response:
        return await unregister("")

    for tail, answer, what in (("", unregister_all, "all regions"), (_REGION, unregister, "a region")):
        routes.add_api_route(
            f"/v2/{kind.kind}sharedmemory{tail}/unregister",
            answer,
            methods=["POST"],
            summary=f"Unregister {what} of {kind.kind} shared memory",
            response_class=Response,
            responses=_DISABLED,
            name=f"{kind.kind}_{answer.__name__}",
        )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidArgument("'b64' of 'raw_handle' must be base 64") from None


def _told(region: MemoryRegion) -> dict[str, object]:
    told: dict[str, object] = {"name": region.name}
    if isinstance(region, SystemRegion):
        told |= {"key": region.key, "offset": region.offset}
    if isinstance(region, CudaRegion):
        told |= {"device_id": region.device}
    return told | {"byte_size": region.size_bytes}
