"""The number that deployments are scaled on: it exists, and what is asked of Prometheus gives what is meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomize import MANIFESTS, Manifest, Rendered, documents, of_kind
from monitoring import selectors
from prometheus import Prometheus, found

METRICS = MANIFESTS.parent / "server" / "ortolan" / "frontends" / "metrics"
ADAPTER = MANIFESTS / "components" / "hpa" / "prometheus-adapter.yaml"
EXAMPLE = MANIFESTS / "overlays" / "kserve" / "example-inference-service.yaml"


@pytest.fixture(scope="module")
def prometheus() -> Prometheus:
    programs = found()
    if isinstance(programs, str):
        pytest.skip(programs)
    return programs


@pytest.fixture(scope="module")
def autoscaler(rendered: Rendered) -> Manifest:
    (scaler,) = of_kind("HorizontalPodAutoscaler", rendered("autoscale"))
    return scaler


@pytest.fixture(scope="module")
def scaled_object(rendered: Rendered) -> Manifest:
    (scaler,) = of_kind("ScaledObject", rendered("keda"))
    return scaler


def adapter_rule() -> Any:
    (rule,) = yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]
    return rule


def adapter_query() -> str:
    """As the adapter sends it for the pods of a deployment."""
    filled = {
        "<<.Series>>": "ortolan_utilization",
        "<<.LabelMatchers>>": 'namespace="ortolan",pod=~"a|b|c"',
        "<<.GroupBy>>": "pod",
    }
    query = adapter_rule()["metricsQuery"]
    for template, text in filled.items():
        assert template in query
        query = query.replace(template, text)
    return query


def service_query() -> str:
    first, *_ = documents(EXAMPLE.read_text())
    (metric,) = first["spec"]["predictor"]["autoScaling"]["metrics"]
    return metric["external"]["metric"]["query"]


def trigger(scaled_object: Manifest) -> Any:
    (only,) = scaled_object["spec"]["triggers"]
    return only


def test_the_metrics_that_are_asked_for_are_the_servers(scaled_object: Manifest) -> None:
    queries = (adapter_query(), service_query(), trigger(scaled_object)["metadata"]["query"])
    asked = {name for query in queries for name, _ in selectors(query)}
    code = "".join(path.read_text() for path in METRICS.glob("*.py"))
    assert asked == {"ortolan_utilization", "ortolan_ready"}
    assert [name for name in asked if f'"{name}"' not in code] == []


def test_the_adapter_gives_the_autoscaler_what_it_asks_for(autoscaler: Manifest) -> None:
    (metric,) = autoscaler["spec"]["metrics"]
    asked = metric["pods"]["metric"]["name"]
    assert adapter_rule()["seriesQuery"].startswith(f"{asked}{{")
    assert "name" not in adapter_rule(), "the adapter would give it another name"


def test_all_scale_on_seventy_percent_between_the_same_bounds(autoscaler: Manifest, scaled_object: Manifest) -> None:
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "700m"}
    assert trigger(scaled_object)["metadata"]["threshold"] == "0.7"
    bounds = autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]
    assert (scaled_object["spec"]["minReplicaCount"], scaled_object["spec"]["maxReplicaCount"]) == bounds
    behavior = scaled_object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == autoscaler["spec"]["behavior"]


def test_a_sum_is_divided_by_the_threshold_and_nothing_else(scaled_object: Manifest) -> None:
    """AverageValue over threshold is how many replicas are wanted; Value, how many times as many as there are."""
    assert trigger(scaled_object)["metricType"] == "AverageValue"
    assert trigger(scaled_object)["metadata"]["query"].startswith("sum(")
    assert service_query().startswith("sum(")


def test_fewer_are_called_back_than_were_sent_and_later(autoscaler: Manifest, rendered: Rendered) -> None:
    up, down = (autoscaler["spec"]["behavior"][way] for way in ("scaleUp", "scaleDown"))
    (deployment,) = of_kind("Deployment", rendered("autoscale"))
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert down["stabilizationWindowSeconds"] > max(policy["periodSeconds"] for policy in up["policies"])
    assert (
        max(policy["periodSeconds"] for policy in up["policies"]) >= probe["periodSeconds"] * probe["failureThreshold"]
    )


# Two servers that are busy, a third that loads its models, and one of somebody else.
SERIES = [
    ("ortolan", "a", "ortolan", "0.9", "1"),
    ("ortolan", "b", "ortolan", "0.7", "1"),
    ("ortolan", "c", "ortolan", "0", "0"),
    ("other", "a", "ortolan", "0.5", "1"),
]


def test_prometheus_answers_what_is_meant(prometheus: Prometheus, scaled_object: Manifest, tmp_path: Path) -> None:
    rules = [
        {"record": "of_pods", "expr": adapter_query()},
        {"record": "of_keda", "expr": trigger(scaled_object)["metadata"]["query"]},
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    expected = [
        # Of one that is not ready the autoscaler gets nothing, so that it is taken for neither idle nor busy.
        {
            "expr": "of_pods",
            "eval_time": "1m",
            "exp_samples": [
                {"labels": f'of_pods{{pod="{pod}"}}', "value": value} for pod, value in (("a", 0.9), ("b", 0.7))
            ],
        },
        {"expr": "of_keda", "eval_time": "1m", "exp_samples": [{"labels": "of_keda", "value": 1.6}]},
    ]
    case = {"interval": "15s", "input_series": list(_input_series()), "promql_expr_test": expected}
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = prometheus.check("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def _input_series() -> Any:
    for namespace, pod, instance, utilization, ready in SERIES:
        labels = f'{{namespace="{namespace}", pod="{pod}", app_kubernetes_io_instance="{instance}"}}'
        yield {"series": f"ortolan_utilization{labels}", "values": f"{utilization}x10"}
        yield {"series": f"ortolan_ready{labels}", "values": f"{ready}x10"}
