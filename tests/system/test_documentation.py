"""``/openapi.json`` and ``/docs``: right, and enough without any other host."""

import json
import re
import urllib.request
from typing import Any

import pytest
from openapi_spec_validator import validate
from server_process import ServerProcess


def get(server: ServerProcess, path: str) -> str:
    with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as response:
        return str(response.read(), "utf-8")


@pytest.fixture(scope="module")
def document(model_repo_server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(model_repo_server, "/openapi.json"))
    return found


def test_the_openapi_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_is_documented(document: dict[str, Any]) -> None:
    model, version = "/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"
    expected = {
        "/",
        "/ping",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/repository/index",
    }
    expected |= {f"/v2/repository/models/{{model_name}}/{change}" for change in ("load", "unload")}
    expected |= {prefix + tail for prefix in (model, version) for tail in ("", "/ready", "/config", "/stats", "/infer")}
    expected |= {"/v2/trace/setting", f"{model}/trace/setting", "/v2/logging"}
    expected |= {prefix + tail for prefix in (model, version) for tail in ("/generate", "/generate_stream")}
    shared = [f"/v2/{kind}sharedmemory" for kind in ("system", "cuda")]
    expected |= {prefix + tail for prefix in shared for tail in ("/status", "/unregister")}
    expected |= {f"{prefix}/region/{{region_name}}{tail}" for prefix in shared for tail in ("/status", "/unregister")}
    expected |= {f"{prefix}/region/{{region_name}}/register" for prefix in shared}
    expected |= {"/v2/models", "/v1/models"}
    expected |= {f"/v1/models/{{model_name}}{verb}" for verb in ("", ":predict")}
    assert set(document["paths"]) == expected


def test_what_no_route_takes_or_answers_is_not_documented(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert not [operation for operation in operations if "422" in operation["responses"]]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", ())]
    assert {parameter["in"] for parameter in parameters} == {"path", "header"}


def test_a_version_in_the_query_is_none(model_repo_server: ServerProcess) -> None:
    for tail in ("", "/ready", "/config", "/stats"):
        assert get(model_repo_server, f"/v2/models/wine{tail}?model_version=99") == get(
            model_repo_server, f"/v2/models/wine{tail}"
        )


def test_operations_have_ids_of_their_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("tail", ["", "/versions/{model_version}"])
def test_the_inference_example_is_answered_as_it_stands(
    model_repo_server: ServerProcess, document: dict[str, Any], tail: str
) -> None:
    path = f"/v2/models/{{model_name}}{tail}/infer"
    operation = document["paths"][path]["post"]
    for parameter in operation["parameters"]:
        path = path.replace(f"{{{parameter['name']}}}", parameter.get("example", ""))
    example = operation["requestBody"]["content"]["application/json"]["example"]
    request = urllib.request.Request(f"http://{model_repo_server.http}{path}", json.dumps(example).encode())
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        assert response.status == 200
        assert json.load(response)["outputs"]


def test_the_documented_answers_are_what_comes(model_repo_server: ServerProcess, document: dict[str, Any]) -> None:
    for path, schema in (
        ("/v2", "ServerMetadataBody"),
        ("/v2/models/iris", "ModelMetadataBody"),
        ("/v2/models/stats", "StatisticsBody"),
    ):
        assert set(json.loads(get(model_repo_server, path))) <= set(
            document["components"]["schemas"][schema]["properties"]
        )


def test_the_page_and_its_files_refer_to_no_other_host(model_repo_server: ServerProcess) -> None:
    page = get(model_repo_server, "/docs")
    references = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']*)["']""", page)
    assert "/openapi.json" in references
    assert not [reference for reference in references if not reference.startswith(("/docs/", "/openapi.json", "data:"))]
    assert "//" not in re.sub(r"\s//.*", "", page).replace("/docs/", "")
    style = get(model_repo_server, "/docs/swagger-ui.css")
    assert not re.findall(r"(?:url\(|@import\s)[\"']?(?:https?:)?//", style)
    assert "SwaggerUIBundle" in get(model_repo_server, "/docs/swagger-ui-bundle.js")
