"""A server as Vertex AI runs it: one port, two paths, and a header by which one of them leads to the others."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from callers import ask, get, row
from openapi_spec_validator import validate
from platform_clients import VERTEX_BINARY, VertexAi, binary_output, binary_request, json_request
from server_process import ServerProcess, finished, running
from system.test_one_port import free_port

from ortolan.frontends.access.api_keys import new_key

PREDICT = "/v1/endpoints/42/deployedModels/7:predict"
HEALTH = "/v1/endpoints/42/deployedModels/7"
OWN = {
    "ORTOLAN_COMPILED_CACHE_DIRECTORY": "off",
    "ORTOLAN_DRAIN_DELAY_SECS": "0",
    "ORTOLAN_METRICS_PORT": "0",
}
PLATFORM = {
    "AIP_MODE": "PREDICTION",
    "AIP_MODE_VERSION": "1.0.0",
    "AIP_PREDICT_ROUTE": PREDICT,
    "AIP_HEALTH_ROUTE": HEALTH,
    "AIP_ENDPOINT_ID": "42",
    "AIP_DEPLOYED_MODEL_ID": "7",
    "AIP_PROJECT_NUMBER": "1",
}


def environment(models: Path) -> dict[str, str]:
    return {**OWN, **PLATFORM, "AIP_STORAGE_URI": str(models), "AIP_HTTP_PORT": str(free_port())}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    onnx_models.save(onnx_models.doubler(), models / "weights.onnx")
    with running(environment=environment(models), defaults=()) as server:
        yield server


@pytest.fixture
def endpoint(server: ServerProcess) -> VertexAi:
    return VertexAi(server, PREDICT, HEALTH)


def test_health_is_told_by_the_status(endpoint: VertexAi, server: ServerProcess) -> None:
    reply = endpoint.health()
    assert (reply.status, reply.body, server.grpc_port) == (200, b"", 0)
    document = get(server, "/openapi.json")
    validate(document)
    assert {PREDICT, HEALTH} < document["paths"].keys()


def test_instances_are_predicted(endpoint: VertexAi) -> None:
    reply = endpoint.predict(row(3, 2).tolist(), {"confidence": 0.5})
    assert (reply.status, reply.json) == (200, {"predictions": row(6, 2).tolist()})


def test_json_of_the_protocol_is_answered_as_it_is(endpoint: VertexAi) -> None:
    np.testing.assert_array_equal(endpoint.raw_predict(json_request(row(3))).array, row(6))


def test_a_binary_body_says_by_its_type_how_long_its_json_is(endpoint: VertexAi) -> None:
    body, length = binary_request(row(3, 2))
    reply = endpoint.raw_predict(body, f"{VERTEX_BINARY};json-header-size={length}")
    np.testing.assert_array_equal(binary_output(reply, VERTEX_BINARY), row(6, 2))
    raw = endpoint.raw_predict(row(3).tobytes(), "application/octet-stream")
    np.testing.assert_array_equal(binary_output(raw, VERTEX_BINARY), row(6))


@pytest.mark.parametrize(
    "redirect",
    [
        "v2",
        "v2/health/live",
        "v2/health/ready",
        "v2/models",
        "v2/models/weights",
        "/v2/models/weights/ready",
        "v2/models/weights/config",
        "v2/models/weights/versions/1/stats",
        "v2/models/stats",
        "v2/repository/index",
        "v2/trace/setting",
        "v2/logging",
    ],
)
def test_a_header_leads_to_what_is_shown(endpoint: VertexAi, redirect: str) -> None:
    reply = endpoint.raw_predict(b"{}", redirect=redirect)
    assert reply.status == 200, reply.body
    assert isinstance(reply.json, (dict, list))


@pytest.mark.parametrize(
    "redirect",
    [
        "v2/repository/models/weights/load",
        "v2/repository/models/weights/unload",
        "v2/systemsharedmemory/region/r/register",
        "v2/systemsharedmemory/unregister",
        "v2/cudasharedmemory/region/r/register",
        "v2/models/weights%0A",
        "docs",
        "../v2",
        "http://127.0.0.1/v2",
        PREDICT,
        "-",
    ],
)
def test_a_header_leads_to_nothing_else(endpoint: VertexAi, redirect: str) -> None:
    reply = endpoint.raw_predict(b"{}", redirect=redirect)
    assert reply.status in (403, 404), reply.body
    assert "error" in reply.json


def test_a_header_leads_to_the_metrics(endpoint: VertexAi) -> None:
    reply = endpoint.raw_predict(b"", redirect="metrics")
    assert (reply.status, b"nv_inference_request_success" in reply.body) == (200, True)


def test_a_header_leads_to_inference_with_any_model(endpoint: VertexAi) -> None:
    reply = endpoint.raw_predict(json_request(row(3)), redirect="v2/models/weights/infer")
    np.testing.assert_array_equal(reply.array, row(6))
    body, length = binary_request(row(3))
    binary = endpoint.raw_predict(body, f"{VERTEX_BINARY};json-header-size={length}", "v2/models/weights/infer")
    np.testing.assert_array_equal(binary_output(binary, VERTEX_BINARY), row(6))
    assert endpoint.raw_predict(json_request(row(3)), redirect="v2/models/other/infer").status == 404


def test_what_is_wrong_is_said_in_json(endpoint: VertexAi) -> None:
    for body, content_type, said in (
        (b"a,b", "text/csv", f"expected JSON, or binary data of the type {VERTEX_BINARY};json-header-size=N"),
        (b"{}", VERTEX_BINARY, "must say how many bytes of the body are JSON"),
        (b'{"instances":[[1]]}', "application/json", "'x'"),
    ):
        reply = endpoint.raw_predict(body, content_type)
        assert (reply.status, said in reply.json["error"]) == (400, True), reply.body


def test_health_is_a_no_until_the_models_are_there_whatever_its_path_means_elsewhere(tmp_path: Path) -> None:
    keys = {scope: new_key(scope, [scope]) for scope in ("infer", "read", "infer@b")}
    (tmp_path / "keys").write_text("".join(line + "\n" for _, line in keys.values()))
    for name, summand in (("a", 1), ("b", 2)):
        onnx_models.save_version(tmp_path / "models", name, onnx_models.adder(summand))
    (tmp_path / "models" / "broken" / "1").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    flags = (
        "--allow-vertex-ai",
        "--vertex-ai-predict-route=/p",
        "--vertex-ai-health-route=/v2/health/live",
        "--vertex-ai-default-model=b",
        "--exit-on-error=false",
        f"--api-keys-file={tmp_path / 'keys'}",
    )
    with running(tmp_path / "models", *flags) as server:
        endpoint = VertexAi(server, "/p", "/v2/health/live")
        assert endpoint.health().status == 503
        for scope, predicts, shows in (("infer", 200, 403), ("read", 403, 200), ("infer@b", 200, 403)):
            key = {"X-API-Key": keys[scope][0]}
            assert endpoint.raw_predict(json_request(row(0)), headers=key).status == predicts
            assert endpoint.raw_predict(b"", redirect="v2/models/a/config", headers=key).status == shows
            elsewhere = endpoint.raw_predict(json_request(row(0)), redirect="v2/models/a/infer", headers=key)
            assert elsewhere.status == (200 if scope == "infer" else 403)
        assert endpoint.raw_predict(json_request(row(0))).status == 401
        assert endpoint.raw_predict(b"", redirect="v2/models/a/config").status == 401
        key = {"X-API-Key": keys["infer"][0]}
        np.testing.assert_array_equal(endpoint.raw_predict(json_request(row(0)), headers=key).array, row(2))
        assert ask(server, "GET", "/p", None, key).status == 405


def test_a_place_that_cannot_be_reached_ends_the_server_and_is_named() -> None:
    ended = finished("serve", environment={**PLATFORM, "AIP_STORAGE_URI": "gs://bucket/../models"})
    assert (ended.returncode, "a gs:// address cannot be used" in ended.stderr) == (2, True)
