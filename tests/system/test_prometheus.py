"""A real Prometheus scrapes a real server: every query of the dashboard and of the rules has an answer there."""

import asyncio
import json
import math
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
from callers import ask, grpc_call, rest_body, row
from server_process import ServerProcess, eventually, running

pytest.importorskip("yaml", reason="PyYAML is not installed")

from monitoring import PROMETHEUS, Rule, dashboard, documented, filled, panels, queries, rules, selectors
from prometheus import Prometheus, ScrapingPrometheus, found

ONE_INSTANCE = "instance_group [ { count: 1, kind: KIND_CPU } ]\n"
MODELS = {
    # Clients that come at once share its executions, and wait for each other.
    "batched": (onnx_models.slow(5_000), f"max_batch_size: 8 dynamic_batching {{ }}\n{ONE_INSTANCE}"),
    "failing": (onnx_models.gather(), "max_batch_size: 8\n"),
    "cached": (onnx_models.adder(1), "max_batch_size: 8 response_cache { enable: true }\n"),
    # Is unloaded before the first scrape, which is no reason for an alert.
    "gone": (onnx_models.adder(1), ""),
    # At most one waits, and the others are refused.
    "full": (
        onnx_models.slow(100_000),
        f"max_batch_size: 1 dynamic_batching {{ default_queue_policy {{ max_queue_size: 1 }} }}\n{ONE_INSTANCE}",
    ),
}
CHOSEN = {"namespace": ".*", "service": ".*", "job": "ortolan", "model": ".*", "version": ".*"}
VARIABLES = {**CHOSEN, "__rate_interval": "1m"}
# Why there is no series of these where there is one process on a machine that may have no GPU.
WITHOUT = {
    "nv_gpu_utilization": "a GPU",
    "nv_gpu_memory_used_bytes": "a GPU",
    "nv_gpu_memory_total_bytes": "a GPU",
    "nv_gpu_power_usage": "a GPU",
    "nv_gpu_power_limit": "a GPU",
    "ortolan_replicas": "--processes",
    "ortolan_replica_restarts_total": "--processes",
}
BY_PROMETHEUS = {"up", "ALERTS"}
# What dashboards and alerts for Triton ask, as people write them.
TRITONS = (
    *(line for snippet in documented("promql") for line in snippet.splitlines()),
    "sum by (model) (increase(nv_inference_request_success[1m]))",
    "sum(rate(nv_inference_request_duration_us[1m])) / sum(rate(nv_inference_request_success[1m]))",
    "delta(nv_inference_compute_input_duration_us[1m]) / delta(nv_inference_request_success[1m])",
    'rate(nv_inference_request_failure{reason="BACKEND"}[1m]) > 0',
    'rate(nv_inference_request_failure{reason="REJECTED"}[1m]) > 0',
    "avg_over_time(nv_inference_pending_request_count[1m])",
    "max_over_time(nv_inference_pending_request_count[1m]) > 0",
    "nv_model_load_duration_secs > 0",
    "rate(nv_cache_num_hits_per_model[1m]) > 0",
    "rate(nv_cache_num_misses_per_model[1m]) > 0",
    "rate(nv_cache_hit_duration_per_model[1m]) / rate(nv_cache_num_hits_per_model[1m])",
)


@dataclass(frozen=True)
class Scraped:
    """The server, the Prometheus that scrapes it, and the program that came with that."""

    server: ServerProcess
    prometheus: ScrapingPrometheus
    programs: Prometheus

    def page(self) -> str:
        with urllib.request.urlopen(f"http://{self.server.metrics}/metrics", timeout=10) as response:
            return str(response.read(), "utf-8")

    def answered(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The query's series, as soon as one of them is a number."""
        return eventually(lambda: [each for each in self.prometheus.series(query) if not math.isnan(each[1])])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Everything of the monitoring at once: traffic of all kinds goes on until the last test."""
    programs = found()
    if isinstance(programs, str):
        pytest.skip(programs)
    repository, home = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("prometheus")
    for name, (model, config) in MODELS.items():
        onnx_models.save_version(repository, name, model, config=config)
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"no model")
    control = ("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false")
    options = ("--cache-config=local,size=1048576", "--model-memory-budget=1GiB")
    with ExitStack() as stack:
        server = stack.enter_context(running(repository, *control, *options))
        assert ask(server, "POST", "/v2/repository/models/gone/unload", {}).status == 200
        stack.enter_context(traffic(server))
        prometheus = stack.enter_context(programs.scraping(configured(home, server)))
        # A rate needs two scrapes, and a trend of what is recorded two evaluations after that.
        eventually(lambda: [value for _, value in prometheus.series("sum_over_time(up[1m])") if value >= 4])
        yield Scraped(server, prometheus, programs)


def configured(home: Path, server: ServerProcess) -> Path:
    """What is shipped, for this server, every second, and with alerts that wait for a second only."""
    configuration = (PROMETHEUS / "prometheus.yml").read_text()
    for shipped, ours in (("ortolan:8002", server.metrics), (": 15s", ": 1s")):
        assert shipped in configuration
        configuration = configuration.replace(shipped, ours)
    (home / "rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", (PROMETHEUS / "rules.yml").read_text()))
    (home / "prometheus.yml").write_text(configuration)
    return home / "prometheus.yml"


@contextmanager
def traffic(server: ServerProcess) -> Iterator[None]:
    """Clients of all kinds, in threads."""
    over = threading.Event()
    clients = [(to_batch, 3), (to_refuse, 4), (to_err, 1)]
    threads = [threading.Thread(target=client, args=(server, over)) for client, count in clients for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def to_batch(server: ServerProcess, over: threading.Event) -> None:
    while not over.wait(0.02):
        assert infer(server, "batched", row()) == 200


def to_refuse(server: ServerProcess, over: threading.Event) -> None:
    while not over.wait(0.05):
        infer(server, "full", row())


def to_err(server: ServerProcess, over: threading.Event) -> None:
    """Answers out of the cache and not, failures of a model, and what never reaches one, over both protocols."""
    number = 0
    while not over.wait(0.05):
        number += 1
        infer(server, "cached", row())
        infer(server, "cached", row(number))
        infer(server, "failing", np.array([[99]]))
        infer(server, "unknown", row())
        ask(server, "POST", "/v2/models/cached/infer", b"{")
        asyncio.run(unknown_over_grpc(server))


def infer(server: ServerProcess, model: str, array: np.ndarray) -> int:
    return ask(server, "POST", f"/v2/models/{model}/infer", rest_body(array)).status


async def unknown_over_grpc(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await grpc_call(channel, "unknown", row())


def told(page: str) -> set[str]:
    """The names of the series on the page."""
    return set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE))


def test_the_server_is_scraped(scraped: Scraped) -> None:
    (target,) = scraped.prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_promtool_finds_nothing_in_the_page_but_tritons_names(scraped: Scraped) -> None:
    done = scraped.programs.check("check", "metrics", page=scraped.page())
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("nv_")]
    assert not complaints


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_query_of_a_panel_has_an_answer(scraped: Scraped, panel: Any) -> None:
    for query in queries(panel):
        names = {name for name, _ in selectors(query)}
        if names & WITHOUT.keys() - told(scraped.page()):
            scraped.prometheus.series(filled(query, VARIABLES))
        else:
            assert scraped.answered(filled(query, VARIABLES))


def test_every_variable_has_its_values(scraped: Scraped) -> None:
    for variable in dashboard()["templating"]["list"][1:]:
        text = filled(variable["query"]["query"], VARIABLES)
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", text).groups()  # type: ignore[union-attr]
        values = scraped.prometheus.ask(f"label/{label}/values", **{"match[]": selector})
        # Outside Kubernetes nothing has the two former.
        expected: dict[str, list[str]] = {
            "namespace": [],
            "app_kubernetes_io_instance": [],
            "job": ["ortolan"],
            "version": ["1"],
        }
        assert values == expected.get(label, values)
        assert label != "model" or set(values) >= {"batched", "failing", "cached", "full"}


def test_alerts_are_drawn_over_the_panels(scraped: Scraped) -> None:
    (annotation,) = dashboard()["annotations"]["list"]
    assert scraped.answered(filled(annotation["expr"], VARIABLES))


@pytest.mark.parametrize("rule", [rule for rule in rules() if not rule.is_alert], ids=lambda rule: rule.name)
def test_what_a_rule_records_is_there(scraped: Scraped, rule: Rule) -> None:
    assert scraped.answered(rule.expression)
    labels = ",".join(f'{key}="{value}"' for key, value in rule.content.get("labels", {}).items())
    assert scraped.answered(f"{rule.name}{{{labels}}}")


@pytest.mark.parametrize("rule", [rule for rule in rules() if rule.is_alert], ids=lambda rule: rule.name)
def test_everything_that_an_alert_looks_at_is_there(scraped: Scraped, rule: Rule) -> None:
    scraped.prometheus.series(rule.expression)
    for name, matchers in selectors(rule.expression):
        assert name in WITHOUT or scraped.answered(name + matchers)


def test_a_model_that_does_not_load_raises_an_alert(scraped: Scraped) -> None:
    def firing() -> list[Any]:
        alerts = scraped.prometheus.ask("alerts")["alerts"]
        return [
            each
            for each in alerts
            if (each["labels"]["alertname"], each["state"]) == ("OrtolanModelUnavailable", "firing")
        ]

    (alert,) = eventually(firing)
    assert alert["labels"]["severity"] == "warning"
    assert alert["annotations"]["summary"] == f"1 model versions on {scraped.server.metrics} are unavailable"


def test_what_should_be_silent_is(scraped: Scraped) -> None:
    groups = scraped.prometheus.ask("rules", type="alert")["groups"]
    states = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
    silent = {"OrtolanAbsent", "OrtolanDown", "OrtolanMemoryNearBudget", "OrtolanModelsThrashing", "OrtolanRestarting"}
    assert {name: states[name] for name in silent} == dict.fromkeys(silent, "inactive")
    assert all(rule["health"] == "ok" for group in groups for rule in group["rules"]), json.dumps(groups)


@pytest.mark.parametrize("query", TRITONS)
def test_what_is_asked_of_triton_is_answered(scraped: Scraped, query: str) -> None:
    assert scraped.answered(query)


def test_the_dashboard_and_the_rules_ask_for_metrics_that_there_are(scraped: Scraped) -> None:
    asked = [query for panel in panels() for query in queries(panel)] + [rule.expression for rule in rules()]
    names = {name for query in asked for name, _ in selectors(query)}
    assert names - told(scraped.page()) - {rule.name for rule in rules()} - BY_PROMETHEUS - WITHOUT.keys() == set()
