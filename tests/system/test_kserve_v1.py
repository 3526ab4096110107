"""KServe's v1 protocol over HTTP: rows and columns in, predictions out, and which models there are."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from callers import Reply, ask, get, row
from server_process import ServerProcess, running

FLOWERS = [[6.7, 3.1, 4.4, 1.4], [5.1, 3.5, 1.4, 0.2]]
DIGIT = json.loads((Path(__file__).parents[2] / "examples" / "digit.json").read_text())


def predict(server: ServerProcess, model: str, body: object, **headers: str) -> Reply:
    return ask(server, "POST", f"/v1/models/{model}:predict", body, headers)


def predictions(server: ServerProcess, model: str, body: object) -> Any:
    reply = predict(server, model, body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
    assert [*reply.json] == ["predictions"]
    return reply.json["predictions"]


def error(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/json"
    assert [*reply.json] == ["error"]
    return str(reply.json["error"])


def test_a_digit_is_told_and_as_infer_tells_it(model_repo_server: ServerProcess) -> None:
    image = np.array(DIGIT, np.float32).reshape(1, 8, 8)
    infer = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": image.ravel().tolist()}]}
    wanted = ask(model_repo_server, "POST", "/v2/models/digits/infer", infer).array.tolist()
    for body in (
        {"instances": [image.tolist()]},
        {"instances": [{"image": image.tolist()}]},
        {"inputs": [image.tolist()]},
        {"inputs": {"image": [image.tolist()]}},
    ):
        found = predictions(model_repo_server, "digits", body)
        assert found == wanted
        assert np.argmax(found[0]) == 3


def test_several_outputs_make_objects_of_rows_and_of_columns(model_repo_server: ServerProcess) -> None:
    rows = predictions(model_repo_server, "iris", {"instances": FLOWERS, "signature_name": "serving_default"})
    assert [prediction["output_label"] for prediction in rows] == [["versicolor"], ["setosa"]]
    assert [len(prediction["output_probability"]) for prediction in rows] == [3, 3]
    columns = predictions(model_repo_server, "iris", {"inputs": FLOWERS})
    assert columns == {name: [prediction[name] for prediction in rows] for name in rows[0]}


def test_texts_need_no_list_around_them(model_repo_server: ServerProcess) -> None:
    lines = ["def area(radius):", "static int answer(void);"]
    coded = [{"b64": base64.b64encode(line.encode()).decode()} for line in lines]
    for instances in (lines, [[line] for line in lines], [{"text": line} for line in lines], coded):
        found = predictions(model_repo_server, "language", {"instances": instances, "parameters": {"top": None}})
        assert [prediction["label"] for prediction in found] == [["python"], ["c"]]


def test_any_bytes_go_in_and_come_out(small_models_server: ServerProcess) -> None:
    rows = [[{"b64": "/w=="}, "a", "é", ""], ["b", "", {"b64": "AP8="}, "c"]]
    assert predictions(small_models_server, "identity_bytes", {"instances": rows}) == rows


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32", "fp64"])
def test_nan_and_infinities_survive(small_models_server: ServerProcess, name: str) -> None:
    body = b'{"instances":[[NaN,Infinity,-Infinity,0.5]]}'
    reply = predict(small_models_server, f"identity_{name}", body)
    assert reply.body == b'{"predictions":[[NaN,Infinity,-Infinity,0.5]]}'


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("iris", b"", 400, "got an empty body"),
        ("iris", b"{", 400, "failed to parse"),
        ("iris", b'{"instances":' + b"[" * 100_000, 400, "nested too deep"),
        ("iris", {}, 400, "got neither"),
        ("iris", {"instances": FLOWERS, "inputs": FLOWERS}, 400, "got both"),
        ("iris", {"instances": []}, 400, "'instances' of the request is empty"),
        ("iris", {"instances": [[1, 2, 3, 4], [1, 2, 3]]}, 400, "instances[1]: the value of input 'features'"),
        ("iris", {"instances": [[1, 2, 3, "4"]]}, 400, "instances[0]: element 3 of input 'features' must be a number"),
        ("iris", {"instances": [{"petals": 4}]}, 400, "instances[0] names 'petals', which is no input"),
        ("iris", {"instances": [{}]}, 400, "missing required input(s) ['features']"),
        ("iris", {"instances": [[0, 0, 0, 0]] * 5}, 400, "batch-size must be <= 4"),
        ("iris", {"inputs": [1, 2, 3, 4]}, 400, "has the shape [4], expected [-1, 4]"),
        ("language", {"instances": [{"b64": "x"}]}, 400, "is not base64"),
        ("nope", {"instances": FLOWERS}, 404, "'nope' is not found"),
    ],
)
def test_a_bad_request_is_refused(
    model_repo_server: ServerProcess, model: str, body: object, status: int, said: str
) -> None:
    reply = predict(model_repo_server, model, body)
    assert (reply.status, said in error(reply)) == (status, True), reply.body


def test_which_models_there_are(model_repo_server: ServerProcess) -> None:
    for path in ("/v1/models", "/v2/models"):
        assert get(model_repo_server, path) == {"models": ["digits", "iris", "language", "wine"]}
    assert get(model_repo_server, "/v1/models/wine") == {"name": "wine", "ready": True}
    missing = ask(model_repo_server, "GET", "/v1/models/nope")
    assert (missing.status, "'nope' is not found" in error(missing)) == (404, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/models/iris:predict", 405, "POST"),
        ("GET", "/v1/models/iris:explain", 405, "POST"),
        ("POST", "/v1/models/iris", 405, "GET"),
        ("POST", "/v1/models", 405, "GET"),
        ("POST", "/v1/models/iris:explain", 501, None),
        ("GET", "/v1/models/iris/versions/1", 404, None),
        ("GET", "/v1", 404, None),
    ],
)
def test_what_v1_has_not(
    model_repo_server: ServerProcess, method: str, path: str, status: int, allow: str | None
) -> None:
    reply = ask(model_repo_server, method, path, b"{}" if method == "POST" else None)
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert error(reply)


@pytest.fixture(scope="module")
def mixed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One good model, one that fails to load, one that nobody loaded, and one without a batch dimension."""
    repository: Path = tmp_path_factory.mktemp("mixed")
    onnx_models.save_version(repository, "good", onnx_models.doubler())
    onnx_models.save_version(repository, "asleep", onnx_models.doubler())
    config = 'max_batch_size: 0\ninput [ { name: "x", data_type: TYPE_FP32, dims: [ -1, 4 ] } ]\n'
    config += 'output [ { name: "y", data_type: TYPE_FP32, dims: [ -1, 4 ] } ]\n'
    onnx_models.save_version(repository, "flat", onnx_models.doubler(), config=config)
    onnx_models.save_version(repository, "broken", onnx_models.doubler())
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    loaded = [f"--load-model={name}" for name in ("good", "flat", "broken")]
    with running(repository, "--model-control-mode=explicit", "--exit-on-error=false", *loaded) as server:
        yield server


def test_a_model_that_failed_is_known_but_not_ready(mixed_server: ServerProcess) -> None:
    for reply in (
        ask(mixed_server, "GET", "/v1/models/broken"),
        predict(mixed_server, "broken", {"instances": [[1, 2, 3, 4]]}),
    ):
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "model 'broken' is not ready" in error(reply)
    assert get(mixed_server, "/v2/models") == {"models": ["flat", "good"]}


@pytest.mark.parametrize("path", ["/v1/models/asleep", "/v1/models/nope"])
def test_a_model_that_nobody_loaded_is_not_there(mixed_server: ServerProcess, path: str) -> None:
    assert ask(mixed_server, "GET", path).status == 404


def test_models_come_and_go(mixed_server: ServerProcess) -> None:
    for change, status, models in (
        ("load", 200, ["asleep", "flat", "good"]),
        ("unload", 404, ["flat", "good"]),
    ):
        assert ask(mixed_server, "POST", f"/v2/repository/models/asleep/{change}").status == 200
        assert ask(mixed_server, "GET", "/v1/models/asleep").status == status
        assert get(mixed_server, "/v1/models") == {"models": models}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"instances": [[1, 2, 3, 4]]}, [[2, 4, 6, 8]]),
        ({"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}, [[2, 4, 6, 8], [10, 12, 14, 16]]),
        # The instance is the tensor, so the prediction is the output.
        ({"instances": [[[1, 2, 3, 4], [5, 6, 7, 8]]]}, [[[2, 4, 6, 8], [10, 12, 14, 16]]]),
        ({"inputs": [[1, 2, 3, 4]]}, [[2, 4, 6, 8]]),
    ],
)
def test_a_model_without_a_batch_dimension_is_given_rows_all_the_same(
    mixed_server: ServerProcess, body: object, wanted: object
) -> None:
    assert predictions(mixed_server, "flat", body) == wanted


def test_bodies_may_be_compressed_and_say_where_time_went(small_models_server: ServerProcess) -> None:
    rows = [[float(number) for number in range(1000)]]
    sent = gzip.compress(json.dumps({"instances": rows}).encode())
    reply = ask(
        small_models_server,
        "POST",
        "/v1/models/large:predict",
        sent,
        {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
    )
    assert reply.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(reply.body)) == {"predictions": rows}
    assert set(reply.timing) == {"queue", "batch", "compute", "encode"}
    refused = predict(small_models_server, "large", sent, **{"Content-Encoding": "br"})
    assert (refused.status, "br" in error(refused)) == (415, True)


def test_a_deadline_that_passes_is_told(small_models_server: ServerProcess) -> None:
    reply = predict(small_models_server, "slower", {"instances": row().tolist()}, **{"X-Request-Timeout": "0.001"})
    assert (reply.status, "deadline" in error(reply)) == (504, True)


def test_the_documented_example_is_answered_as_it_stands(model_repo_server: ServerProcess) -> None:
    paths = get(model_repo_server, "/openapi.json")["paths"]
    operation = paths["/v1/models/{model_name}:predict"]["post"]
    (parameter,) = (each for each in operation["parameters"] if each["in"] == "path")
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert predictions(model_repo_server, parameter["example"], example)
    assert {*operation["responses"]} == {"200", "400", "404", "415", "500", "503", "504"}
    assert {*paths["/v1/models/{model_name}"]["get"]["responses"]} == {"200", "404", "503"}
