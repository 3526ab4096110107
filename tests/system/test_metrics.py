"""The metrics page: Triton's names and labels, the numbers of a known traffic, and what Prometheus makes of it."""

import json
import re
import select
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from server_process import ServerProcess, eventually, running


@dataclass
class Family:
    """One metric of a page, as the text format 0.0.4 has it."""

    kind: str
    explanation: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)


def families(text: str) -> dict[str, Family]:
    """The metrics of a page by name. Each sample must stand under the heading of its own name."""
    found: dict[str, Family] = {}
    name = explanation = ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"# HELP (\w+) (.+)", line):
            name, explanation = heading.groups()
        elif heading := re.fullmatch(rf"# TYPE {name} (counter|gauge)", line):
            found[name] = Family(heading[1], explanation)
        else:
            sample = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
            assert sample, line
            labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)', sample[1] or "")
            found[name].samples.append(({key: unescaped(value) for key, value in labels}, float(sample[2])))
    return found


def unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), value)


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


def page(server: ServerProcess, accept: str = "*/*") -> tuple[str, str]:
    """The content type and the text."""
    request = urllib.request.Request(f"http://{server.metrics}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a URL of ours
        return response.headers["content-type"], response.read().decode()


def samples(server: ServerProcess, model: str = "gather", version: str = "1") -> dict[str, float]:
    """The numbers of one version by metric, those of failures by reason."""
    return {
        labels.get("reason", name): value
        for name, family in families(page(server)[1]).items()
        for labels, value in family.samples
        if (labels.get("model"), labels.get("version")) == (model, version)
    }


def infer(server: ServerProcess, index: int, rows: int = 1) -> int:
    data = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [rows, 1], "data": [index] * rows}]}
    url = f"http://{server.http}/v2/models/gather/versions/1/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(data).encode()), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_every_metric_is_there_from_the_start_with_its_type_and_labels(server: ServerProcess) -> None:
    found = {name: family for name, family in families(page(server)[1]).items() if name.startswith("nv_")}
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
    with running(tmp_path, "--max-queue-size=1", "--exit-timeout-secs=0") as server, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.http_port), timeout=10)) for _ in range(5)
        ]
        for client in clients:
            client.sendall(request)

        def refused() -> list[socket.socket]:
            return select.select(clients, [], [], 0)[0]

        # At most one runs and one waits.
        eventually(lambda: samples(server, "endless")["REJECTED"] == len(refused()) >= 3)
        assert all(client.recv(4096).startswith(b"HTTP/1.1 503 ") for client in refused())
        counts = samples(server, "endless")
        assert (counts["CANCELED"], counts["BACKEND"], counts["OTHER"]) == (0, 0, 0)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on PATH")
def test_prometheus_scrapes_the_page_and_knows_the_types(server: ServerProcess, tmp_path: Path) -> None:
    infer(server, 1, 3)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    home = tmp_path / ".prometheus"
    home.mkdir()
    (home / "prometheus.yml").write_text(
        f"scrape_configs: [{{job_name: ortolan, scrape_interval: 200ms, scrape_timeout: 200ms, "
        f"static_configs: [{{targets: ['{server.metrics}']}}]}}]"
    )
    program = ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
    prometheus = subprocess.Popen(
        [*program, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def ask(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=10) as response:
                return json.load(response)["data"]
        except OSError:
            return None

    def value() -> Any:
        query = urllib.parse.urlencode({"query": 'nv_inference_count{model="gather",version="1"}'})
        result = (ask(f"query?{query}") or {}).get("result")
        return result and float(result[0]["value"][1])

    try:
        assert eventually(value) == samples(server)["nv_inference_count"] > 0
        metadata = {entry["metric"]: entry["type"] for entry in ask("targets/metadata")}
        assert metadata.items() >= {**dict.fromkeys(COUNTERS, "counter"), **dict.fromkeys(GAUGES, "gauge")}.items()
    finally:
        prometheus.terminate()
        prometheus.wait(20)
