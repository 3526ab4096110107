"""The metrics page: Triton's names and labels, the numbers of a known traffic, and what Prometheus makes of it."""

import json
import queue
import select
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import onnx_models
import pytest
import tritonclient.grpc
from metrics_page import families, infer, not_found_by_http, of_histogram, page, samples, value
from server_process import ServerProcess, eventually, running
from tritonclient.utils import InferenceServerException

COUNTERS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
}
GAUGES = {"nv_inference_pending_request_count", "nv_model_load_duration_secs"}
REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
TAG = 'metric_tags { key: "team" value: "back\\\\slash \\"quote\\" and ümlaut" }'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """``gather`` in two versions, of which the tests ask the first and whose index 99 fails, and ``tagged``."""
    tmp_path = tmp_path_factory.mktemp("metrics")
    config = "max_batch_size: 4\nversion_policy { all { } }"
    for version in (1, 2):
        onnx_models.save_version(tmp_path, "gather", onnx_models.gather(), version, config)
    onnx_models.save_version(tmp_path, "tagged", onnx_models.gather(), config=TAG)
    with running(tmp_path) as server:
        yield server


def test_every_metric_is_there_from_the_start_with_its_type_and_labels(server: ServerProcess) -> None:
    found = {name: each for name, each in families(page(server)[1]).items() if name.startswith(("nv_inf", "nv_model"))}
    assert {name: family.kind for name, family in found.items()} == (
        dict.fromkeys(COUNTERS, "counter") | dict.fromkeys(GAUGES, "gauge")
    )
    for name, family in found.items():
        assert family.explanation
        expected = [("gather", "1"), ("gather", "2"), ("tagged", "1")]
        reasons = REASONS if name == "nv_inference_request_failure" else (None,)
        assert [(labels["model"], labels["version"], labels.get("reason")) for labels, _ in family.samples] == [
            (*version, reason) for version in expected for reason in reasons
        ]


def test_all_counts_begin_at_0(server: ServerProcess) -> None:
    found = samples(server, version="2")
    assert {found[name] for name in (*COUNTERS - {"nv_inference_request_failure"}, *REASONS)} == {0}
    assert found["nv_inference_pending_request_count"] == 0
    assert 0 < found["nv_model_load_duration_secs"] < 30


def test_tags_of_the_configuration_are_labels_whatever_is_in_them(server: ServerProcess) -> None:
    found = families(page(server)[1])
    tags = {labels.get("_team") for family in found.values() for labels, _ in family.samples}
    assert tags == {None, 'back\\slash "quote" and ümlaut'}


@pytest.mark.parametrize("accept", ["*/*", "", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"])
def test_the_page_is_prometheus_text_whatever_is_accepted(model_repo_server: ServerProcess, accept: str) -> None:
    content_type, text = page(model_repo_server, accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert text.endswith("\n")
    assert "# TYPE nv_inference_count counter\n" in text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the numbers come from /proc")
def test_what_the_process_uses_is_there_too(server: ServerProcess) -> None:
    found = families(page(server)[1])
    kinds = {"process_cpu_seconds_total": "counter", "process_resident_memory_bytes": "gauge"}
    for name, kind in kinds.items():
        ((labels, value),) = found[name].samples
        assert (found[name].kind, labels, value > 0) == (kind, {}, True)


def growth(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What became larger or smaller, and by how much."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_success_counts_requests_rows_executions_and_times(server: ServerProcess) -> None:
    before = samples(server)
    for rows in (1, 2, 3):
        assert infer(server, 1, rows) == 200
    grown = growth(before, samples(server))
    assert grown["nv_inference_request_success"] == 3
    assert grown["nv_inference_count"] == 6
    assert grown["nv_inference_exec_count"] == 3
    assert grown["nv_inference_request_duration_us"] > grown["nv_inference_compute_infer_duration_us"] > 0
    assert not grown.keys() & {*REASONS, *GAUGES}


def test_a_failed_request_raises_only_the_failures(server: ServerProcess) -> None:
    before = samples(server)
    assert infer(server, 99) in (400, 500)
    assert growth(before, samples(server)) == {"BACKEND": 1}


def test_the_statistics_say_the_same(server: ServerProcess) -> None:
    infer(server, 1, 2)
    infer(server, 99)
    with urllib.request.urlopen(f"http://{server.http}/v2/models/gather/versions/1/stats", timeout=10) as response:
        (statistics,) = json.load(response)["model_stats"]
    found = samples(server)
    assert statistics["inference_count"] == found["nv_inference_count"] > 0
    assert statistics["execution_count"] == found["nv_inference_exec_count"] > 0
    assert statistics["inference_stats"]["fail"]["count"] == found["BACKEND"] > 0
    assert statistics["inference_stats"]["success"]["ns"] // 1000 == found["nv_inference_request_duration_us"]


def test_what_a_full_queue_refuses_counts_as_rejected(tmp_path: Path) -> None:
    config = "max_batch_size: 1\ninstance_group [ { count: 1, kind: KIND_CPU } ]"
    onnx_models.save_version(tmp_path, "endless", onnx_models.slow(2**40), config=config)
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,1,1,1]}]}'
    request = b"POST /v2/models/endless/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with (
        running(tmp_path, "--max-queue-size=1", "--exit-timeout-secs=0", "--metrics-interval-ms=100") as server,
        ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.http_port), timeout=10)) for _ in range(5)
        ]
        for client in clients:
            client.sendall(request)

        def refused() -> list[socket.socket]:
            return select.select(clients, [], [], 0)[0]

        # At most one runs and one waits.
        eventually(lambda: samples(server, "endless")["REJECTED"] == len(refused()) >= 3)
        told = [client.recv(4096) for client in refused()]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in told)
        counts = samples(server, "endless")
        assert (counts["CANCELED"], counts["BACKEND"], counts["OTHER"]) == (0, 0, 0)
        assert value(server, "ortolan_error_responses_total", protocol="http", code="503") == len(told)
        assert value(server, "ortolan_requests_total", model="endless", outcome="rejected") == len(told)
        inside = len(clients) - len(told)
        assert value(server, "ortolan_requests_in_flight") == inside
        assert value(server, "ortolan_queue_depth") == inside - 1
        assert (value(server, "ortolan_queue_age_seconds") > 0) is (inside > 1)
        # Its one instance is at its end, however many cores there are.
        eventually(lambda: value(server, "ortolan_model_utilization") > 0.5)
        assert value(server, "ortolan_utilization") > 0.5


# -- ours -------------------------------------------------------------------------------------------------------------

DURATION, STAGE = "ortolan_request_duration_seconds", "ortolan_request_stage_duration_seconds"


def test_histograms_agree_with_tritons_sums_and_counts(server: ServerProcess) -> None:
    for rows in (1, 3):
        assert infer(server, 1, rows) == 200
    triton, first = samples(server), {"model": "gather", "version": "1"}
    buckets, total, count = of_histogram(server, DURATION, **first)
    assert buckets == sorted(buckets)
    assert buckets[-1] == count == triton["nv_inference_request_success"]
    assert int(total * 1e6) == pytest.approx(triton["nv_inference_request_duration_us"], abs=1)
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        buckets, total, count = of_histogram(server, STAGE, stage=stage, **first)
        assert buckets[-1] == count == triton["nv_inference_request_success"]
        assert int(total * 1e6) == pytest.approx(triton[f"nv_inference_{stage}_duration_us"], abs=1)
    buckets, rows_in_all, count = of_histogram(server, "ortolan_batch_size", **first)
    assert (rows_in_all, buckets[-1], count) == (triton["nv_inference_count"], count, triton["nv_inference_exec_count"])


def test_a_version_that_nobody_asked_has_its_histograms_at_0_and_all_its_outcomes(server: ServerProcess) -> None:
    found = families(page(server)[1])
    for name, count in ((DURATION, 26), (STAGE, 4 * 26), ("ortolan_batch_size", 14)):
        numbers = [number for labels, number in found[name].samples if labels["version"] == "2"]
        assert (len(numbers), set(numbers)) == (count, {0})
    outcomes = [labels["outcome"] for labels, _ in found["ortolan_requests_total"].samples if labels["version"] == "2"]
    assert outcomes == ["success", "rejected", "canceled", "backend", "other"]


def test_the_server_says_what_it_is_and_how_it_does(server: ServerProcess) -> None:
    found = families(page(server)[1])
    ((labels, number),) = found["ortolan_build_info"].samples
    assert (set(labels), number) == ({"version", "onnxruntime", "python"}, 1)
    states = {labels["state"]: number for labels, number in found["ortolan_model_versions"].samples}
    assert states == {"ready": 3, "loading": 0, "unloading": 0, "unavailable": 0}
    assert found["ortolan_ready"].samples == [({}, 1)]
    for name in ("ortolan_utilization", "ortolan_model_utilization"):
        assert all(0 <= number <= 1 for _, number in found[name].samples)
    assert len(found["ortolan_model_utilization"].samples) == 3


def refused_by_http(server: ServerProcess) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.http_port), timeout=10)) as client:
        client.sendall(b"no HTTP at all\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def large_head(server: ServerProcess) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.http_port), timeout=10)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-large: " + bytes([97]) * 100_000)
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def wrong_input(server: ServerProcess) -> None:
    # A second one is answered without a coroutine.
    for _ in range(2):
        assert infer(server, 99) in (400, 500)


def unknown_by_grpc(server: ServerProcess) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client, pytest.raises(InferenceServerException):
        client.get_model_metadata("none")


def unknown_in_a_stream(server: ServerProcess) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        answers: queue.Queue[InferenceServerException | None] = queue.Queue()

        def hear(result: object, error: InferenceServerException | None) -> None:
            answers.put(error)

        client.start_stream(hear)
        client.async_stream_infer("none", [])
        assert answers.get(timeout=10) is not None


# What a client does, and what it is told.
ERRORS = [
    (refused_by_http, "http", "400", 1),
    (not_found_by_http, "http", "404", 1),
    (large_head, "http", "431", 1),
    (wrong_input, "http", "400", 2),
    (unknown_by_grpc, "grpc", "NOT_FOUND", 1),
    (unknown_in_a_stream, "grpc", "NOT_FOUND", 1),
]


@pytest.mark.parametrize(("do", "protocol", "code", "count"), ERRORS, ids=[do.__name__ for do, *_ in ERRORS])
def test_every_error_that_a_client_is_told_counts_once(
    server: ServerProcess, do: Callable[[ServerProcess], None], protocol: str, code: str, count: int
) -> None:
    before = value(server, "ortolan_error_responses_total", protocol=protocol, code=code)
    do(server)
    assert value(server, "ortolan_error_responses_total", protocol=protocol, code=code) == before + count


def test_probes_that_are_told_no_do_not_count(server: ServerProcess) -> None:
    def counted() -> list[tuple[dict[str, str], float]]:
        found = families(page(server)[1]).get("ortolan_error_responses_total")
        return found.samples if found else []

    before = counted()
    for path in ("gather/versions/99/ready", "none/ready"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{server.http}/v2/models/{path}", timeout=10)
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x04none", timeout=10)
    assert told.value.code() is grpc.StatusCode.NOT_FOUND
    assert counted() == before


def test_a_client_that_goes_is_told_nothing(server: ServerProcess) -> None:
    channel = grpc.insecure_channel(server.grpc)
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([]))
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert next(watch)
    watch.cancel()
    stream.cancel()
    channel.close()
    infer(server, 1)
    assert not value(server, "ortolan_error_responses_total", protocol="grpc", code="CANCELLED")


def test_the_same_page_is_on_the_http_port(server: ServerProcess) -> None:
    request = urllib.request.Request(f"http://{server.http}/metrics", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        assert response.headers["content-type"] == page(server)[0]
        assert families(response.read().decode()).keys() == families(page(server)[1]).keys()
