"""A server as SageMaker runs it: one model that was unpacked, and many that the platform loads and unloads."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ensembles
import numpy as np
import onnx_models
import pytest
from callers import ask, get, row
from heavy_models import heavy
from openapi_spec_validator import validate
from platform_clients import SAGEMAKER_BINARY, SageMaker, binary_output, binary_request, json_request
from server_process import ServerProcess, running
from system.test_one_port import free_port

from ortolan.frontends.access.api_keys import new_key

# The platform starts a container with this word alone.
SERVE: tuple[str, ...] = ()
# What a test needs to know when the server has started, and to leave nothing behind.
OWN = {
    "ORTOLAN_COMPILED_CACHE_DIRECTORY": "off",
    "ORTOLAN_DRAIN_DELAY_SECS": "0",
    "ORTOLAN_METRICS_PORT": "0",
    "SAGEMAKER_TRITON_ALLOW_METRICS": "true",
}
MANY = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_TRITON_LOG_INFO": "false"}


def environment(base: Path, **more: str) -> dict[str, str]:
    return {**OWN, "SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(free_port()), **more}


# -- one model ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    base = tmp_path_factory.mktemp("ml")
    onnx_models.save(onnx_models.doubler(), base / "model" / "weights.onnx")
    with running(environment=environment(base), defaults=SERVE) as server:
        yield server


@pytest.fixture
def endpoint(one: ServerProcess) -> SageMaker:
    return SageMaker(one)


def test_the_word_serve_is_enough(one: ServerProcess, endpoint: SageMaker) -> None:
    assert one.grpc_port == 0
    ping = endpoint.ping()
    assert (ping.status, ping.body) == (200, b"")


def test_json_of_the_protocol_is_answered_in_json(endpoint: SageMaker) -> None:
    reply = endpoint.invoke(json_request(row(3, 2)))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    np.testing.assert_array_equal(reply.array, row(6, 2))


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "text/plain", ""])
def test_rows_are_answered_with_predictions(endpoint: SageMaker, content_type: str) -> None:
    reply = endpoint.invoke({"instances": row(3, 2).tolist()}, content_type)
    assert (reply.status, reply.json) == (200, {"predictions": row(6, 2).tolist()})


@pytest.mark.parametrize("form", [";json-header-size=", "; json-header-size=", ";charset=x;JSON-Header-Size="])
def test_a_binary_body_says_by_its_type_how_long_its_json_is(endpoint: SageMaker, form: str) -> None:
    body, length = binary_request(row(3, 2))
    reply = endpoint.invoke(body, f"{SAGEMAKER_BINARY}{form}{length}")
    assert reply.status == 200, reply.body
    np.testing.assert_array_equal(binary_output(reply, SAGEMAKER_BINARY), row(6, 2))


def test_what_is_asked_for_in_binary_form_comes_in_the_type_that_is_let_through(endpoint: SageMaker) -> None:
    asked = json_request(row(3)) | {"parameters": {"binary_data_output": True}}
    np.testing.assert_array_equal(binary_output(endpoint.invoke(asked), SAGEMAKER_BINARY), row(6))


def test_the_elements_alone_are_a_request(endpoint: SageMaker) -> None:
    reply = endpoint.invoke(row(3).tobytes(), "application/octet-stream")
    np.testing.assert_array_equal(binary_output(reply, SAGEMAKER_BINARY), row(6))


def test_the_protocols_own_header_is_answered_with_it(endpoint: SageMaker) -> None:
    body, length = binary_request(row(3))
    reply = endpoint.invoke(body, "application/octet-stream", headers={"Inference-Header-Content-Length": str(length)})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    own = int(reply.headers["inference-header-content-length"])
    np.testing.assert_array_equal(np.frombuffer(reply.body[own:], np.float32), row(6).ravel())


@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (b"1.0,2.0", "text/csv", 400, f"expected JSON, or binary data of the type {SAGEMAKER_BINARY};json-header-size"),
        (b"", "application/json", 400, "the request has no JSON"),
        (b"[1]", "application/json", 400, "must be an object"),
        (b"{}", "application/json", 400, "has no 'inputs'"),
        (b'{"instances":[[1]]}', "application/json", 400, "x"),
        (b"12345", "application/octet-stream", 400, "input byte size mismatch"),
        (b"{}", SAGEMAKER_BINARY, 400, "must say how many bytes of the body are JSON"),
        (b"{}", f"{SAGEMAKER_BINARY};json-header-size=ten", 400, "ten"),
        (b"{}", f"{SAGEMAKER_BINARY};json-header-size=9", 400, "9"),
    ],
)
def test_what_is_wrong_is_said_in_json(
    endpoint: SageMaker, body: bytes, content_type: str, status: int, said: str
) -> None:
    reply = endpoint.invoke(body, content_type)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert said in reply.json["error"]


def test_there_are_no_routes_of_many_models_and_those_of_the_protocol_are_there(one: ServerProcess) -> None:
    assert [ask(one, *route).status for route in (("POST", "/models"), ("GET", "/models"), ("GET", "/models/a"))] == [
        404,
        404,
        404,
    ]
    assert ask(one, "GET", "/invocations").status == 405
    assert get(one, "/v2/models/weights")["name"] == "weights"
    document = get(one, "/openapi.json")
    validate(document)
    assert {"/invocations", "/ping"} < document["paths"].keys()


def test_of_a_repository_only_the_named_model_is_loaded_and_may_generate(tmp_path: Path) -> None:
    repository = tmp_path / "model"
    for name in ("first", "second"):
        onnx_models.save_version(repository, name, onnx_models.adder(1 if name == "first" else 2))
    named = environment(
        tmp_path, SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="second", SAGEMAKER_TRITON_INFERENCE_TYPE="generate"
    )
    with running(environment=named, defaults=SERVE) as server:
        reply = SageMaker(server).invoke({"x": [1.0, 1.0, 1.0, 1.0]})
        assert (reply.status, reply.json["y"]) == (200, [3.0, 3.0, 3.0, 3.0])
        assert get(server, "/v2/models") == {"models": ["second"]}


# -- many models -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ml")


@pytest.fixture(scope="module")
def many(base: Path) -> Iterator[ServerProcess]:
    (base / "models").mkdir()
    given = environment(base, ORTOLAN_MODEL_MEMORY_BUDGET="32MiB", **MANY)
    with running(environment=given, defaults=SERVE) as server:
        yield server


@pytest.fixture
def platform(many: ServerProcess) -> Iterator[SageMaker]:
    """Without models at the end of each test, as at its beginning."""
    platform = SageMaker(many)
    yield platform
    for model in platform.models():
        assert platform.unload(model["modelName"]).status == 200
    assert get_names(many) == []


def get_names(server: ServerProcess) -> list[str]:
    return [entry["name"] for entry in ask(server, "POST", "/v2/repository/index").json]


@pytest.fixture
def places(base: Path, request: pytest.FixtureRequest) -> Path:
    """Where the platform puts this test's models."""
    place = base / "models" / request.node.name.partition("[")[0]
    place.mkdir(exist_ok=True)
    return place


def test_it_is_ready_without_a_model(many: ServerProcess, platform: SageMaker) -> None:
    assert platform.ping().status == 200
    assert platform.models() == []
    assert platform.invoke(json_request(row(1))).status == 404
    assert ask(many, "GET", "/v2/health/ready").status == 200
    document = get(many, "/openapi.json")
    validate(document)
    wanted = {"/models", "/models/{model_name}", "/models/{model_name}/invoke"}
    assert wanted == {path for path in document["paths"] if path.startswith(("/models", "/invocations"))}


def test_a_model_comes_answers_and_goes(many: ServerProcess, platform: SageMaker, places: Path) -> None:
    url = places / "model"
    onnx_models.save(onnx_models.doubler(), url / "any.onnx")
    assert platform.model("a").status == 404
    loaded = platform.load("a", url)
    assert (loaded.status, loaded.json) == (200, {})
    again = platform.load("a", url)
    assert (again.status, "loaded already" in again.json["error"]) == (409, True)
    assert platform.model("a").json == {"modelName": "a", "modelUrl": str(url)}
    assert platform.models() == [platform.model("a").json]
    np.testing.assert_array_equal(platform.invoke(json_request(row(3)), model="a").array, row(6))
    body, length = binary_request(row(3))
    reply = platform.invoke(body, f"{SAGEMAKER_BINARY};json-header-size={length}", "a")
    np.testing.assert_array_equal(binary_output(reply, SAGEMAKER_BINARY), row(6))
    assert platform.invoke({"instances": row(3).tolist()}, model="a").json == {"predictions": row(6).tolist()}
    assert platform.unload("a").status == 200
    assert platform.unload("a").status == platform.model("a").status == platform.invoke(b"{}", model="a").status == 404
    assert get_names(many) == []


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "a%2Fb", "x::y", "..", "a/invoke", "a?b#c", "n" * 300])
def test_a_name_is_any_text(platform: SageMaker, base: Path, name: str) -> None:
    url = base / "models" / "named" / "model"
    if not url.exists():
        onnx_models.save(onnx_models.doubler(), url / "any.onnx")
    assert platform.load(name, url).status == 200
    assert platform.models() == [{"modelName": name, "modelUrl": str(url)}]
    assert platform.model(name).status == 200
    assert platform.invoke(json_request(row(1)), model=name).status == 200
    assert platform.unload(name).status == 200


def test_each_form_of_a_directory_may_hold_a_model(platform: SageMaker, places: Path) -> None:
    onnx_models.save_version(places / "repository", "inner", onnx_models.adder(1), config='name: "inner"')
    onnx_models.save_version(places, "directory", onnx_models.adder(2), config='name: "another"')
    onnx_models.save(onnx_models.adder(3), places / "versions" / "7" / "model.onnx")
    onnx_models.save(onnx_models.adder(4), places / "file.onnx")
    for number, place in enumerate(("repository", "directory", "versions", "file.onnx"), 1):
        assert platform.load(place, places / place).status == 200
        np.testing.assert_array_equal(platform.invoke(json_request(row(0)), model=place).array, row(number))


def test_ensembles_have_their_own_models_in_each_directory(
    platform: SageMaker, places: Path, many: ServerProcess
) -> None:
    for name, summand in (("one", 1), ("two", 2)):
        onnx_models.save_version(places / name, "part", onnx_models.adder(summand), config="max_batch_size: 8")
        ensembles.save_like_a_model(places / name, "whole", "part", "part")
        assert platform.load(name, places / name).status == 200
    for name, total in (("one", 2), ("two", 4)):
        np.testing.assert_array_equal(platform.invoke(json_request(row(0)), model=name).array, row(total))
    assert platform.unload("one").status == 200
    assert get_names(many) == ["two", "two::part"]
    np.testing.assert_array_equal(platform.invoke(json_request(row(0)), model="two").array, row(4))


def test_a_directory_must_be_one_of_models(
    many: ServerProcess, platform: SageMaker, base: Path, places: Path, tmp_path: Path
) -> None:
    onnx_models.save(onnx_models.doubler(), tmp_path / "model.onnx")
    (places / "link").symlink_to(tmp_path)
    (places / "empty").mkdir()
    (places / "leads").mkdir()
    (places / "leads" / "model.onnx").symlink_to(tmp_path / "model.onnx")
    for url, status in (
        (places / "nowhere", 404),
        (places / "empty", 400),
        (tmp_path, 400),
        (places / "link", 400),
        (places / "leads", 400),
        (base / "models", 400),
        (f"{base}/models/../models/../../etc", 400),
        ("models/a", 400),
        ("s3://bucket/model", 400),
        ("/\0", 400),
    ):
        reply = platform.load("a", url)
        assert (reply.status, str(base) in reply.json["error"]) == (status, False), (url, reply.body)
    for document in ({}, {"model_name": "a"}, {"model_name": 1, "url": "/"}, {"model_name": "", "url": "/"}, [1]):
        assert ask(many, "POST", "/models", document).status == 400
    assert platform.load("a\nb", places).status == 400
    assert platform.models() == []


def test_what_fails_to_load_leaves_nothing_and_may_be_tried_again(
    many: ServerProcess, platform: SageMaker, places: Path
) -> None:
    (places / "model.onnx").write_bytes(b"no model")
    refused = platform.load("a", places)
    assert (refused.status, platform.model("a").status, get_names(many)) == (400, 404, [])
    onnx_models.save(onnx_models.doubler(), places / "model.onnx")
    assert platform.load("a", places).status == 200


def test_where_there_is_no_memory_it_is_said_and_is_free_again_once_another_is_unloaded(
    platform: SageMaker, places: Path
) -> None:
    for seed, name in enumerate(("a", "b")):
        onnx_models.save(heavy(1, 20, seed), places / name / "model.onnx")
    assert platform.load("a", places / "a").status == 200
    full = platform.load("b", places / "b")
    assert (full.status, "needs 2" in full.json["error"]) == (507, True), full.body
    # The platform relies on what it had loaded.
    assert platform.invoke(json_request(row(0)), model="a").status == 200
    for unloaded, loaded in (("a", "b"), ("b", "a")):
        assert platform.unload(unloaded).status == 200
        assert platform.load(loaded, places / loaded).status == 200
        np.testing.assert_array_equal(platform.invoke(json_request(row(0)), model=loaded).array, row(1))


def test_of_two_loads_at_once_one_finds_the_other(platform: SageMaker, places: Path) -> None:
    onnx_models.save(onnx_models.doubler(), places / "model.onnx")
    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(lambda _: platform.load("a", places).status, range(4))) == [200, 409, 409, 409]


def test_requests_go_on_while_others_come_and_go(platform: SageMaker, places: Path) -> None:
    onnx_models.save(onnx_models.doubler(), places / "model.onnx")
    assert platform.load("stays", places).status == 200
    ended = threading.Event()

    def asks() -> set[int]:
        found: set[int] = set()
        while not ended.is_set():
            found.add(platform.invoke(json_request(row(1)), model="stays").status)
        return found

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(asks)
        for _ in range(5):
            assert (platform.load("comes", places).status, platform.unload("comes").status) == (200, 200)
        ended.set()
        assert asking.result(20) == {200}


def test_where_keys_are_asked_for_each_route_needs_its_scope_and_several_processes_are_one(tmp_path: Path) -> None:
    keys = {scope: new_key(scope, [scope]) for scope in ("infer", "read", "admin", "admin@b", "infer@b")}
    (tmp_path / "keys").write_text("".join(line + "\n" for _, line in keys.values()))
    name, place = "a/b", tmp_path / "models" / "a"
    onnx_models.save(onnx_models.doubler(), place / "model.onnx")
    more = {"ORTOLAN_API_KEYS_FILE": str(tmp_path / "keys"), "ORTOLAN_PROCESSES": "2"}
    with running(environment=environment(tmp_path, **more, **MANY), defaults=SERVE) as server:
        platform = SageMaker(server)
        assert platform.ping().status == 200

        def load(headers: dict[str, str]) -> int:
            return platform.load(name, place, headers).status

        def invoke(headers: dict[str, str]) -> int:
            return platform.invoke(json_request(row(1)), model=name, headers=headers).status

        def unload(headers: dict[str, str]) -> int:
            return platform.unload(name, headers).status

        def show(headers: dict[str, str]) -> int:
            return platform.model(name, headers).status

        def show_all(headers: dict[str, str]) -> int:
            return ask(server, "GET", "/models", None, headers).status

        for route, right, gone in (
            (load, "admin", 409),
            (invoke, "infer", 200),
            (show, "read", 200),
            (show_all, "read", 200),
            (unload, "admin", 404),
        ):
            assert (route({}), route({"X-API-Key": "wrong"})) == (401, 401)
            scopes = [scope for scope in keys if scope != right and not (route is show and scope == "infer")]
            assert {route({"X-API-Key": keys[scope][0]}) for scope in scopes} == {403}, (route, scopes)
            # Each of these is a connection of its own, which meets either process.
            found = [route({"X-API-Key": keys[right][0]}) for _ in range(9)]
            assert found == [200] + [gone] * 8, route
