"""What kubectl would send, against the schemas of every Kubernetes that is promised, and of the kinds of others."""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

import yaml
from custom_resources import faults, kubernetes_versions
from kustomize import MANIFESTS, Manifest, Rendered, documents, found, of_kind
from manifests import EVERYTHING

# Applied by themselves, with `kubectl apply -f`.
SINGLE_FILES = ("load-models.yaml", "overlays/kserve/example-inference-service.yaml")
# What kustomize does not read: values of a Helm chart, and what Prometheus, promtool and Grafana read.
OTHERS = ("components/hpa/prometheus-adapter.yaml", "README.md")


@pytest.fixture(scope="module")
def manifests(rendered: Rendered) -> list[Manifest]:
    """Everything that any of the names sends, each but once."""
    sent = [manifest for name in ("prometheus", "grafana", *EVERYTHING) for manifest in rendered(name)]
    return [json.loads(text) for text in dict.fromkeys(json.dumps(manifest) for manifest in sent)]


@pytest.mark.parametrize("version", kubernetes_versions())
def test_a_cluster_takes_everything_as_it_is(manifests: list[Manifest], version: str) -> None:
    told = {f"{manifest['kind']}/{manifest['metadata']['name']}": faults(manifest, version) for manifest in manifests}
    assert {name: found for name, found in told.items() if found} == {}


@pytest.mark.parametrize("name", SINGLE_FILES)
def test_files_that_are_applied_by_themselves_are_valid(name: str) -> None:
    for manifest in documents((MANIFESTS / name).read_text()):
        assert [faults(manifest, version) for version in kubernetes_versions()] == [[]] * len(kubernetes_versions())


def test_nothing_is_there_that_nobody_sends() -> None:
    directories = [MANIFESTS / place for place in ("base", "components", "overlays")]
    files = {path for directory in directories for path in directory.rglob("*") if path.is_file()}
    kustomizations = {path for path in files if path.name == "kustomization.yaml"}
    used = {path.parent / name for path in kustomizations for name in _named(yaml.safe_load(path.read_text()))}
    single = {MANIFESTS / name for name in (*SINGLE_FILES, *OTHERS)}
    assert files - kustomizations - used - single == set()


def _named(kustomization: Manifest) -> list[str]:
    generators = [*kustomization.get("configMapGenerator", []), *kustomization.get("secretGenerator", [])]
    patches = [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
    sources = [name for each in generators for name in (*each.get("envs", []), *each.get("files", []))]
    return [*kustomization.get("resources", []), *patches, *sources]


def test_the_overlay_that_the_readme_shows_is_one(tmp_path: Path) -> None:
    program = found()
    if isinstance(program, str):
        pytest.skip(program)
    shutil.copytree(MANIFESTS, tmp_path / "k8s")
    (tmp_path / "k8s" / "mine").mkdir()
    (shown,) = re.findall(r"```yaml\n(.*?)```", (MANIFESTS / "README.md").read_text(), re.DOTALL)
    (tmp_path / "k8s" / "mine" / "kustomization.yaml").write_text(shown)
    sent = program.rendered(tmp_path / "k8s" / "mine")
    assert [faults(manifest, kubernetes_versions()[0]) for manifest in sent] == [[]] * len(sent)
    assert {manifest["metadata"]["namespace"] for manifest in sent} == {"models"}
    (settings,) = of_kind("ConfigMap", sent)
    assert settings["data"].items() >= {"ORTOLAN_MODEL_CONTROL_MODE": "poll", "ORTOLAN_LOG_FORMAT": "json"}.items()


@pytest.mark.parametrize("page", ["k8s/README.md", "docs/scaling.md"])
def test_pages_name_what_is_there(page: str) -> None:
    text = (MANIFESTS.parent / page).read_text()
    named = set(re.findall(r"\bk8s/[\w./-]*[\w/]", text)) - {"k8s/mine", "k8s/mine/kustomization.yaml"}
    assert [name for name in named if not (MANIFESTS.parent / name).exists()] == []
    assert [
        each for each in re.findall(r"`(components/\w[\w-]*|overlays/\w+)/?`", text) if not (MANIFESTS / each).exists()
    ] == []


# (kind, where, what is written there): a slip that somebody could make.
SLIPS = [
    ("Deployment", "spec.template.spec.containers.0.readynessProbe", {}),
    ("Deployment", "spec.template.spec.containers.0.ports.0.containerPort", "eight thousand"),
    ("Service", "spec.ports.0.appprotocol", "http"),
    ("PodDisruptionBudget", "spec.maxUnavailble", 1),
    ("NetworkPolicy", "spec.egress.0.too", []),
    ("HorizontalPodAutoscaler", "spec.metrics.0.pods.target.averagevalue", "700m"),
    ("Ingress", "spec.rules.0.http.paths.0.pathtype", "Exact"),
    ("ScaledObject", "spec.minReplicas", 2),
    ("ScaledObject", "spec.triggers.0.metadata.threshold", 0.7),
    ("ScaledObject", "spec.triggers.0.metricType", "Average"),
    ("ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUP", {}),
    ("PodMonitor", "spec.podMetricsEndpoints.0.portName", "metrics"),
    ("PodMonitor", "spec.podMetricsEndpoints.0.interval", "15 s"),
    ("PodMonitor", "spec.selector.matchLabel", {}),
    ("PrometheusRule", "spec.groups.0.rules.0.expression", "1"),
    ("PrometheusRule", "spec.groups.0.rules.0.for", "5 minutes"),
    ("Gateway", "spec.listeners.0.protocol", "https"),
    ("Gateway", "spec.listeners.0.tls.certificateRef", []),
    ("HTTPRoute", "spec.rules.0.matches.0.path.type", "Prefix"),
    ("HTTPRoute", "spec.rules.0.timeouts.request", "60 s"),
    ("GRPCRoute", "spec.rules.0.matches.0.method.path", "/"),
    ("GRPCRoute", "spec.rules.0.timeouts", {"request": "60s"}),
    ("ClusterServingRuntime", "spec.supportedModelFormats.0.priority", 0),
    ("ClusterServingRuntime", "spec.protocolVersions.0", "v3"),
    ("ClusterServingRuntime", "spec.containers.0.argv", []),
    ("ClusterServingRuntime", "apiVersion", "serving.kserve.io/v1beta1"),
]


@pytest.mark.parametrize(("kind", "where", "slip"), SLIPS)
def test_a_slip_is_refused(manifests: list[Manifest], kind: str, where: str, slip: Any) -> None:
    manifest = next(each for each in reversed(manifests) if each["kind"] == kind)
    assert faults(manifest, kubernetes_versions()[-1]) == []
    assert faults(_with(manifest, where, slip), kubernetes_versions()[-1])


@pytest.mark.parametrize(
    ("where", "slip"),
    [
        ("spec.predictor.minReplica", 2),
        ("spec.predictor.enableServiceLink", False),
        ("spec.predictor.model.storageURI", "s3://example-models/digits"),
        ("spec.predictor.model.modelFormat.name", None),
        ("spec.predictor.autoScaling.metrics.0.external.target.average", "0.7"),
    ],
)
def test_a_slip_in_an_inference_service_is_refused(where: str, slip: Any) -> None:
    first, *_ = documents((MANIFESTS / "overlays/kserve/example-inference-service.yaml").read_text())
    assert faults(_with(first, where, slip), kubernetes_versions()[-1])


def test_a_kind_that_nobody_knows_is_refused() -> None:
    assert faults({"apiVersion": "v1", "kind": "Servise", "metadata": {"name": "x"}}, kubernetes_versions()[-1])


def _with(manifest: Manifest, where: str, value: Any) -> Manifest:
    changed = copy.deepcopy(manifest)
    *way, last = [int(step) if step.isdecimal() else step for step in where.split(".")]
    place: Any = changed
    for step in way:
        place = place[step]
    place[last] = value
    return changed
