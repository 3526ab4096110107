"""What the server tells of itself and its models: health, metadata, configuration, statistics, metrics."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from callers import metric
from conformance.wire import Grpc, Http
from google.protobuf import json_format
from server_process import ServerProcess

from ortolan import __version__
from ortolan.inference.datatypes import DATATYPES

# In this order; clients look features up in the list.
EXTENSIONS = [
    "classification", "sequence", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
    "model_configuration", "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters",
    "statistics", "trace", "logging",
]  # fmt: skip
DURATIONS = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]


# -- the server --------------------------------------------------------------------------------------------------------


def test_the_server_names_itself_and_its_extensions_in_tritons_order(http: Http, grpc_: Grpc) -> None:
    """Fact 11."""
    told = http.get("/v2").json
    assert (told["name"], told["version"]) == ("ortolan", __version__)
    assert told["extensions"] == [name for name in EXTENSIONS if name in told["extensions"]]
    assert {"statistics", "model_repository", "binary_tensor_data", "classification", "sequence"} <= set(
        told["extensions"]
    )
    message = grpc_.ask("ServerMetadata")
    assert {"name": message.name, "version": message.version, "extensions": [*message.extensions]} == told


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"status": "alive"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/pair/ready", {"name": "pair", "ready": True}),
        ("/v2/models/pair/versions/1/ready", {"name": "pair", "ready": True}),
    ],
)
def test_a_healthy_server_answers_health_with_200_and_kserves_bodies(http: Http, path: str, body: object) -> None:
    """Fact 8 for the status; the bodies, which Triton leaves empty, are those that KServe's client reads.

    What is not ready is in ``test_repository``.
    """
    reply = http.get(path)
    assert (reply.status, reply.json, reply.headers["content-type"]) == (200, body, "application/json")


def test_a_model_that_is_not_there_is_not_ready(http: Http) -> None:
    assert http.get("/v2/models/nobody/ready").status == 404
    assert http.get("/v2/models/pair/versions/2/ready").status == 404


@pytest.mark.parametrize("path", ["/v2?x=1", "/v2/models/pair?version=7", "/v2/models/pair/stats?a=b"])
def test_the_query_means_nothing(http: Http, path: str) -> None:
    assert http.get(path).status == 200


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/models/pair/", "/v2/models/pair/infer/", "/v2/health/live/", "/v3", "//v2"]
)
def test_a_path_that_is_none_of_the_protocols_is_not_found(http: Http, path: str) -> None:
    reply = http.get(path)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
    assert reply.json["error"] == "Not Found: no route has this path; GET /docs shows those that there are"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2"), ("POST", "/v2/health/ready"), ("GET", "/v2/models/pair/infer"), ("GET", "/v2/repository/index")],
)
def test_another_method_is_not_allowed(http: Http, method: str, path: str) -> None:
    reply = http.ask(method, path)
    allowed = "GET" if method == "POST" else "POST"
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert reply.json == {"error": f"Method Not Allowed: this path expects {allowed}"}


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", [datatype.name for datatype in DATATYPES])
def test_metadata_name_every_datatype_as_the_wire_does(http: Http, grpc_: Grpc, datatype: str) -> None:
    name = f"any_{datatype.lower()}"
    tensor = {"datatype": datatype, "shape": [-1, -1]}
    told = http.get(f"/v2/models/{name}").json
    told.pop("properties")
    assert told == {
        "name": name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
    }
    message = grpc_.ask("ModelMetadata", name=name)
    (given,), (got,) = message.inputs, message.outputs
    assert (message.name, [*message.versions], message.platform) == (name, ["1"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, [*each.shape]) for each in (given, got)] == [
        ("x", datatype, [-1, -1]),
        ("y", datatype, [-1, -1]),
    ]


@pytest.mark.parametrize(
    ("model", "given", "got"),
    [
        ("pair", {"a": [-1, 4], "b": [-1, 4]}, {"sum": [-1, 4], "difference": [-1, 4]}),
        ("reshaped", {"x": [-1, 6]}, {"y": [-1, 3, 2]}),
        ("scalar_fp32", {"x": [1]}, {"y": [1]}),
        ("optional", {"x": [-1, 4], "c": [1]}, {"y": [-1, 4]}),
    ],
)
def test_shapes_are_those_that_clients_send_with_the_batch_dimension(
    http: Http, model: str, given: dict[str, list[int]], got: dict[str, list[int]]
) -> None:
    told = http.get(f"/v2/models/{model}").json
    assert {tensor["name"]: tensor["shape"] for tensor in told["inputs"]} == given
    assert {tensor["name"]: tensor["shape"] for tensor in told["outputs"]} == got


@pytest.mark.parametrize(("version", "versions"), [("", ["2", "9", "10"]), ("9", ["9"])])
def test_metadata_list_all_versions_or_the_one_that_was_asked_for(
    http: Http, grpc_: Grpc, version: str, versions: list[str]
) -> None:
    path = f"/v2/models/versions/versions/{version}" if version else "/v2/models/versions"
    assert http.get(path).json["versions"] == versions
    assert [*grpc_.ask("ModelMetadata", name="versions", version=version).versions] == versions


# -- configuration (fact 9) --------------------------------------------------------------------------------------------

SHOWN_THOUGH_DEFAULT = {
    (): {"cc_model_filenames": {}, "metric_tags": {}, "batch_input": [], "batch_output": [], "model_warmup": []},
    ("input", 0): {"format": "FORMAT_NONE", "is_shape_tensor": False, "allow_ragged_batch": False, "optional": False},
    ("output", 0): {"label_filename": "", "is_shape_tensor": False},
    ("instance_group", 0): {"gpus": [], "profile": [], "passive": False, "host_policy": "", "secondary_devices": []},
    ("optimization",): {"priority": "PRIORITY_DEFAULT", "eager_batching": False},
    ("dynamic_batching",): {"preserve_ordering": False, "priority_queue_policy": {}},
    ("dynamic_batching", "default_queue_policy"): {"allow_timeout_override": False, "max_queue_size": 0},
}
NUMBERS = {
    ("max_batch_size",): 8,
    ("input", 0, "dims"): [4],
    ("version_policy", "specific", "versions"): [1],
    ("dynamic_batching", "preferred_batch_size"): [4, 8],
    ("dynamic_batching", "max_queue_delay_microseconds"): 100,
    ("dynamic_batching", "priority_levels"): 2,
    ("dynamic_batching", "default_queue_policy", "default_timeout_microseconds"): 4294967296000,
}


def part(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


@pytest.mark.parametrize("place", SHOWN_THOUGH_DEFAULT)
def test_the_configuration_shows_default_values_too(http: Http, place: tuple[str | int, ...]) -> None:
    shown = part(http.get("/v2/models/detailed/config").json, place)
    expected = SHOWN_THOUGH_DEFAULT[place]
    assert {key: shown.get(key) for key in expected} == expected


@pytest.mark.parametrize("place", NUMBERS)
def test_the_configurations_integers_are_numbers_whatever_their_width(http: Http, place: tuple[str | int, ...]) -> None:
    assert part(http.get("/v2/models/detailed/config").json, place) == NUMBERS[place]


def test_the_configurations_names_are_in_snake_case(http: Http) -> None:
    text = http.get("/v2/models/detailed/config").body.decode()
    keys = re.findall(r'"(\w+)":', text)
    assert len(keys) > 40
    assert [key for key in keys if key != key.lower()] == []


@pytest.mark.parametrize("model", ["detailed", "pair", "mixed", "labelled_fp32", "scalar_bytes"])
def test_the_configuration_is_the_same_over_grpc(http: Http, grpc_: Grpc, model: str) -> None:
    message = grpc_.ask("ModelConfig", name=model).config
    parsed = type(message)()
    json_format.ParseDict(http.get(f"/v2/models/{model}/config").json, parsed)
    assert parsed == message
    assert message.name == model


# -- statistics (fact 10) ----------------------------------------------------------------------------------------------


def statistics(http: Http, model: str) -> Any:
    (told,) = http.get(f"/v2/models/{model}/stats").json["model_stats"]
    return told


def infer_pair(http: Http, rows: int) -> None:
    tensors = [{"name": name, "datatype": "INT32", "shape": [rows, 4], "data": [1] * 4 * rows} for name in ("a", "b")]
    assert http.infer("pair", {"inputs": tensors}).status == 200


def test_statistics_have_tritons_members_as_numbers(http: Http) -> None:
    infer_pair(http, 2)
    told = statistics(http, "pair")
    assert (told["name"], told["version"], told["response_stats"]) == ("pair", "1", {})
    assert [[*usage] for usage in told["memory_usage"]] == [["type", "id", "byte_size"]]
    for key in ("last_inference", "inference_count", "execution_count"):
        assert type(told[key]) is int
    assert [*told["inference_stats"]] == DURATIONS
    for batch in told["batch_stats"]:
        assert [*batch] == ["batch_size", "compute_input", "compute_infer", "compute_output"]
    durations = [*told["inference_stats"].values(), *(batch["compute_infer"] for batch in told["batch_stats"])]
    for duration in durations:
        assert {key: type(value) for key, value in duration.items()} == {"count": int, "ns": int}


def test_a_success_counts_once_with_its_rows_and_its_times(http: Http) -> None:
    infer_pair(http, 1)
    before = statistics(http, "pair")
    infer_pair(http, 3)
    after = statistics(http, "pair")
    grown = {key: after[key] - before[key] for key in ("inference_count", "execution_count")}
    assert grown == {"inference_count": 3, "execution_count": 1}
    counts = {
        name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] for name in DURATIONS
    }
    once = {"success", "queue", "compute_input", "compute_infer", "compute_output"}
    assert counts == {name: int(name in once) for name in DURATIONS}
    spent = {name: after["inference_stats"][name]["ns"] - before["inference_stats"][name]["ns"] for name in DURATIONS}
    assert spent["success"] >= spent["compute_infer"] > 0
    assert abs(time.time() * 1000 - after["last_inference"]) < 60_000
    sizes = [
        {batch["batch_size"]: batch["compute_infer"]["count"] for batch in told["batch_stats"]}
        for told in (before, after)
    ]
    assert sizes[1].get(3, 0) - sizes[0].get(3, 0) == 1


def test_a_failure_touches_the_failures_only(http: Http, conformance_server: ServerProcess) -> None:
    """Fact 13."""
    tensor = {"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [99]}
    before, failed = statistics(http, "gather"), metric(conformance_server, "nv_inference_request_failure", "gather")
    assert http.infer("gather", {"inputs": [tensor]}).status == 400
    after = statistics(http, "gather")
    stats = before["inference_stats"], after["inference_stats"]
    assert stats[1]["fail"]["count"] - stats[0]["fail"]["count"] == 1
    for part_of in stats:
        part_of.pop("fail")
    assert stats[0] == stats[1]
    for key in ("inference_count", "execution_count", "batch_stats", "last_inference"):
        assert before[key] == after[key], key
    assert metric(conformance_server, "nv_inference_request_failure", "gather") - failed == 1


def test_statistics_are_the_same_over_grpc(http: Http, grpc_: Grpc) -> None:
    infer_pair(http, 2)
    told = statistics(http, "pair")
    (message,) = grpc_.ask("ModelStatistics", name="pair").model_stats
    assert (message.name, message.version) == ("pair", "1")
    for key in ("last_inference", "inference_count", "execution_count"):
        assert getattr(message, key) == told[key]
    for name in DURATIONS:
        duration = getattr(message.inference_stats, name)
        assert {"count": duration.count, "ns": duration.ns} == told["inference_stats"][name]
    assert [(batch.batch_size, batch.compute_infer.count) for batch in message.batch_stats] == [
        (batch["batch_size"], batch["compute_infer"]["count"]) for batch in told["batch_stats"]
    ]


def test_statistics_of_all_models_come_without_a_name(http: Http, grpc_: Grpc) -> None:
    told = [(each["name"], each["version"]) for each in http.get("/v2/models/stats").json["model_stats"]]
    assert {("versions", "2"), ("versions", "9"), ("versions", "10"), ("pair", "1")} <= set(told)
    assert [(each.name, each.version) for each in grpc_.ask("ModelStatistics").model_stats] == told


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        ("nobody", "", "requested model 'nobody' is not available"),
        ("pair", "7", "requested model version is not available for model 'pair'"),
    ],
)
def test_statistics_of_what_is_not_there_are_a_bad_request(
    http: Http, grpc_: Grpc, model: str, version: str, said: str
) -> None:
    """Not 404: Triton's core has another word for it here."""
    reply = http.get(f"/v2/models/{model}{f'/versions/{version}' if version else ''}/stats")
    assert (reply.status, reply.json) == (400, {"error": said})
    request = grpc_.request("ModelStatistics", name=model, version=version)
    assert grpc_.refusal("ModelStatistics", request) == ("INVALID_ARGUMENT", said)


# -- metrics (fact 12) -------------------------------------------------------------------------------------------------

COUNTERS = [
    "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count", "nv_inference_exec_count",
    "nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us", "nv_inference_compute_output_duration_us",
]  # fmt: skip


@pytest.fixture(scope="module")
def metrics(conformance_server: ServerProcess) -> Iterator[str]:
    with urlopen(f"http://{conformance_server.metrics}/metrics", timeout=30) as response:
        assert response.headers["content-type"].startswith("text/plain")
        yield response.read().decode()


@pytest.mark.parametrize("name", COUNTERS)
def test_counters_have_tritons_names_without_a_suffix(metrics: str, name: str) -> None:
    assert f"# TYPE {name} counter\n" in metrics
    assert re.search(rf'^{name}{{[^}}]*model="pair"[^}}]*version="1"[^}}]*}} \d', metrics, re.MULTILINE)
    assert f"{name}_total" not in metrics


def test_every_reason_of_a_failure_is_there_from_the_start(metrics: str) -> None:
    lines = [line for line in metrics.splitlines() if line.startswith("nv_inference_request_failure{")]
    reasons = {re.search(r'reason="(\w+)"', line)[1] for line in lines if 'model="vector"' in line}  # type: ignore[index]
    assert reasons == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}
