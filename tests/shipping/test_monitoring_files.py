"""What is shipped for Prometheus and Grafana: right by promtool, the same everywhere, tested and explained."""

import configparser
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="PyYAML is not installed")

from monitoring import (
    DASHBOARD,
    PROMETHEUS,
    ROOT,
    Rule,
    dashboard,
    documented,
    panels,
    queries,
    read_yaml,
    rules,
    selectors,
)
from prometheus import Prometheus, found

GRAFANA = ROOT / "k8s" / "grafana"
ALERTS = [rule for rule in rules() if rule.is_alert]
RECORDED = [rule for rule in rules() if not rule.is_alert]
SEVERITIES = {"critical", "warning", "info"}


@pytest.fixture(scope="module")
def prometheus() -> Prometheus:
    programs = found()
    if isinstance(programs, str):
        pytest.skip(programs)
    return programs


@pytest.fixture(scope="module")
def compose() -> Any:
    return read_yaml(ROOT / "docker-compose.yml")["services"]


def mounts(service: Any) -> dict[str, tuple[str, str]]:
    """For each place in the container its source and the mode."""
    parts = [volume.split(":") for volume in service["volumes"]]
    return {part[1]: (part[0], part[2] if part[2:] else "rw") for part in parts}


# -- the rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
def test_promtool_finds_nothing(prometheus: Prometheus, arguments: tuple[str, ...]) -> None:
    done = prometheus.check(*arguments[:-1], PROMETHEUS / arguments[-1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration_that_the_documentation_shows(prometheus: Prometheus, tmp_path: Path) -> None:
    (shown,) = documented("yaml")
    (tmp_path / "prometheus.yml").write_text(shown)
    (tmp_path / "rules.yml").write_bytes((PROMETHEUS / "rules.yml").read_bytes())
    done = prometheus.check("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operator_gets_the_same_rules() -> None:
    operators = read_yaml(PROMETHEUS / "prometheus_rule.yaml")
    assert operators["spec"] == read_yaml(PROMETHEUS / "rules.yml"), "`make prometheus-rule` writes it anew"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(alert: Rule) -> None:
    assert alert.content["labels"]["severity"] in SEVERITIES
    texts = alert.content["annotations"]
    assert set(texts) == {"summary", "description", "runbook_url"}
    assert len(texts["summary"]) < len(texts["description"])
    assert texts["runbook_url"] == f"docs/alerts.md#{alert.name.lower()}"


def test_each_alert_has_its_section_with_its_severity_and_there_are_no_others() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    sections = re.findall(r"^## (\w+)\n\n\*(\w+)\.\*", text, re.MULTILINE)
    assert sections == [(alert.name, alert.content["labels"]["severity"]) for alert in ALERTS]
    assert text.count("\n## ") == len(ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_is_shown_to_fire_and_to_be_silent(alert: Rule) -> None:
    cases = read_yaml(PROMETHEUS / "rules_test.yml")["tests"]
    outcomes = [
        bool(check["exp_alerts"])
        for case in cases
        for check in case["alert_rule_test"]
        if check["alertname"] == alert.name
    ]
    assert {True, False} == set(outcomes)


def test_alerts_divide_nothing_by_themselves() -> None:
    """Only recorded ratios, which are of sums, have what keeps them right."""
    assert not [alert.name for alert in ALERTS if "/" in re.sub(r'"[^"]*"', "", alert.expression)]


def test_every_recorded_series_is_explained() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert not [rule.name for rule in RECORDED if f"`{rule.name}" not in text]


def test_what_the_rules_record_is_named_by_its_level_and_its_metric() -> None:
    for rule in RECORDED:
        level, metric, _ = rule.name.split(":")
        assert metric.startswith("ortolan_")
        assert level.split("_")[0] in {"model", "service", "server"}


# -- compose -----------------------------------------------------------------------------------------------------------


def test_prometheus_finds_its_rules_where_its_configuration_looks_for_them(compose: Any) -> None:
    mounted = mounts(compose["prometheus"])
    (rule_file,) = read_yaml(PROMETHEUS / "prometheus.yml")["rule_files"]
    source, mode = mounted[f"/etc/prometheus/{rule_file}"]
    assert (ROOT / source, mode) == (PROMETHEUS / rule_file, "ro")


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_images_are_pinned_and_containers_may_do_nothing_they_need_not(compose: Any, service: str) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", compose[service]["image"])
    assert compose[service]["read_only"]
    assert compose[service]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in compose[service]["security_opt"]
    for source, mode in mounts(compose[service]).values():
        assert mode == "ro" if source.startswith("./") else source.endswith("-data")


def test_grafana_has_what_it_reads(compose: Any) -> None:
    mounted = mounts(compose["grafana"])
    (provider,) = read_yaml(GRAFANA / "provisioning" / "dashboards" / "ortolan.yml")["providers"]
    assert ROOT / mounted["/etc/grafana/provisioning"][0] == GRAFANA / "provisioning"
    assert ROOT / mounted[provider["options"]["path"]][0] == DASHBOARD.parent
    assert not provider["allowUiUpdates"]


def test_grafana_asks_the_prometheus_of_compose_as_often_as_that_scrapes(compose: Any) -> None:
    (source,) = read_yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    port = compose["prometheus"]["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{port}"
    assert not source["editable"]
    assert source["jsonData"]["timeInterval"] == read_yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]


def test_nobody_is_an_administrator_of_grafana_and_it_reports_to_nobody(compose: Any) -> None:
    settings = configparser.ConfigParser()
    settings.read(GRAFANA / "grafana.ini")
    assert settings["security"]["disable_initial_admin_creation"] == "true"
    assert settings["auth.anonymous"]["org_role"] == "Viewer"
    assert set(settings["analytics"].values()) == {"false"}
    home = settings["dashboards"]["default_home_dashboard_path"]
    directory, _, name = home.rpartition("/")
    assert (ROOT / mounts(compose["grafana"])[directory][0] / name) == DASHBOARD


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_panels_have_ids_of_their_own() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_a_unit_an_explanation_and_asks_the_chosen_source_and_servers(panel: Any) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"]
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert {str(each["datasource"]) for each in (panel, *panel["targets"])} == {str(chosen)}
    for expression in queries(panel):
        for name, matchers in selectors(expression):
            assert 'namespace=~"$namespace", app_kubernetes_io_instance=~"$service"' in matchers, name
            assert 'job=~"$job' in matchers, name


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


def test_variables_are_known_before_they_are_used() -> None:
    known: set[str] = set()
    for variable in dashboard()["templating"]["list"]:
        query = variable["query"] if isinstance(variable["query"], str) else variable["query"]["query"]
        assert set(re.findall(r"\$(\w+)", query)) <= known
        known.add(variable["name"])
    used = {name for panel in panels() for query in queries(panel) for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} <= known


# -- Kubernetes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "kind"), [("k8s/prometheus", "PrometheusRule"), ("k8s/grafana", "ConfigMap")], ids=str
)
def test_kustomize_renders_what_a_cluster_takes(directory: str, kind: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", directory], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"kind: {kind}\n" in done.stdout
