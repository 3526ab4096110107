"""``/docs`` and ``/openapi.json``: every route, with an inference example that runs as it stands.

Swagger UI's files come from a package that carries them, so that the page works without any other host.
"""

import weakref
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ortolan import __version__
from ortolan.core.inference_core import InferenceCore
from ortolan.core.served_version import ServedVersion
from ortolan.frontends.access.access import Access
from ortolan.frontends.rest.bodies import ErrorBody, InferenceRequestBody, InferenceResponseBody
from ortolan.frontends.rest.document_corrections import correct
from ortolan.frontends.rest.documented_errors import inference_errors
from ortolan.frontends.rest.documented_examples import add_examples, shown_version
from ortolan.frontends.restriction import Restrictions
from ortolan.inference.example_request import example_request

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_DESCRIPTION = (
    "A model server for ONNX models that speaks the Open Inference Protocol with Triton's extensions. "
    "Tensors may also travel as binary data after the JSON; see the header Inference-Header-Content-Length."
)
_HEADER_LENGTH = "Inference-Header-Content-Length"
_LENGTH = {"type": "string", "pattern": "^[0-9]+$"}
_LENGTH_MEANS = "The length in bytes of the JSON that binary parts follow. Without it all is JSON"
_HEADER_LENGTH_PARAMETER: dict[str, object] = {
    "name": _HEADER_LENGTH,
    "in": "header",
    "required": False,
    "description": _LENGTH_MEANS + "; 0: nothing is, and the body is the elements of the model's only input.",
    "schema": _LENGTH,
}


class Document:
    """The OpenAPI document, made anew when its examples are of another version: that takes 100 ms, and all may ask.

    It is open to everybody, so that it names no model where keys are asked for.
    """

    def __init__(self, app: FastAPI, core: InferenceCore, restrictions: Restrictions, access: Access) -> None:
        self._app = app
        self._core = core
        self._restrictions = restrictions
        self._access = access
        # It is not to outlive its time because its example was shown.
        self._shown: weakref.ref[ServedVersion] | None = None
        self._made: dict[str, object] | None = None

    def current(self) -> dict[str, object]:
        shown = None if self._access.needs_credentials else shown_version(self._core)
        if self._made is None or shown is not (self._shown and self._shown()):
            self._shown = None if shown is None else weakref.ref(shown)
            self._made = _document(self._app, shown, self._restrictions, self._access)
        return self._made


def _document(
    app: FastAPI, shown: ServedVersion | None, restrictions: Restrictions, access: Access
) -> dict[str, object]:
    document = get_openapi(title="Ortolan", version=__version__, description=_DESCRIPTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (InferenceRequestBody, InferenceResponseBody, ErrorBody):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    paths = document["paths"]
    if shown is not None:
        add_examples(paths, shown)
    paths["/v2/models/{model_name}/infer"] = {"post": _infer_operation(shown, False)}
    paths["/v2/models/{model_name}/versions/{model_version}/infer"] = {"post": _infer_operation(shown, True)}
    correct(document, restrictions, access)
    return document


def _infer_operation(shown: ServedVersion | None, with_version: bool) -> dict[str, object]:
    parameters = [_path_parameter("model_name", shown.name if shown else None)]
    if with_version:
        parameters.append(_path_parameter("model_version", shown.number_text if shown else None))
    parameters.append(_HEADER_LENGTH_PARAMETER)
    content: dict[str, object] = {"schema": {"$ref": "#/components/schemas/InferenceRequestBody"}}
    if shown:
        content["example"] = example_request(shown.signature)
    return {
        "tags": ["inference"],
        "summary": "Infer with a model version" if with_version else "Infer with a model",
        "operationId": "infer_version" if with_version else "infer",
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": content, "application/octet-stream": {}}},
        "responses": {
            "200": {
                "description": "The outputs; after the JSON those that are wanted in binary form",
                "headers": {_HEADER_LENGTH: {"description": _LENGTH_MEANS, "schema": _LENGTH}},
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/InferenceResponseBody"}},
                    "application/octet-stream": {},
                },
            },
            **{str(status): _error_answer(each["description"]) for status, each in inference_errors().items()},
            "501": _error_answer("Clients may not use shared memory"),
        },
    }


def _path_parameter(name: str, example: str | None) -> dict[str, object]:
    parameter: dict[str, object] = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    return parameter | ({"example": example} if example else {})


def _error_answer(description: str) -> dict[str, object]:
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def routes() -> list[Route]:
    """The page and its two files."""

    async def page(request: Request) -> Response:  # noqa: ARG001
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Ortolan",
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="data:,",
        )

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HTTPException(404)
        content = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(content, media_type=_ASSETS[name], headers={"cache-control": "max-age=86400"})

    return [
        Route("/docs", page, include_in_schema=False),
        Route("/docs/{name}", asset, include_in_schema=False),
    ]
