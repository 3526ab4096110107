"""What the manifests say of the server, against the server's own code."""

import re
from typing import Any

import pytest
import yaml
from kustomize import MANIFESTS, TOGETHER, Rendered, documents, of_kind
from manifests import DEPLOYED, EVERYTHING, bytes_of, environment_of, pods, settings_of

from ortolan.hosting.contract import Hosting, Surroundings
from ortolan.hosting.kserve import KSERVE
from ortolan.hosting.local_files import LocalFiles
from ortolan.settings import ENVIRONMENT_PREFIX, Settings, read_settings

# What a pod has from SIGTERM on, if it does not say: KServe's runtimes cannot.
KUBERNETES_GRACE_S = 30


@pytest.fixture(scope="module")
def runtime(rendered: Rendered) -> Any:
    (found,) = of_kind("ClusterServingRuntime", rendered("kserve"))
    return found["spec"]


@pytest.fixture(scope="module")
def under_kserve() -> Hosting:
    return KSERVE.hosting(Surroundings({}, LocalFiles()))


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_server_understands_its_arguments_and_variables(rendered: Rendered, name: str) -> None:
    for pod in pods(rendered(name)):
        (container,) = pod["containers"]
        assert settings_of(container, rendered(name)).model_repository


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_variable_of_ours_is_a_setting(rendered: Rendered, name: str) -> None:
    containers = [container for pod in pods(rendered(name)) for container in pod["containers"]]
    runtimes = [
        each for found in of_kind("ClusterServingRuntime", rendered(name)) for each in found["spec"]["containers"]
    ]
    for container in (*containers, *runtimes):
        variables = environment_of(container, rendered(name))
        ours = {each for each in variables if each.startswith(ENVIRONMENT_PREFIX)}
        assert {each.removeprefix(ENVIRONMENT_PREFIX).lower() for each in ours} <= set(Settings.model_fields)
        assert variables["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_flags_for_kserve_are_flags_and_its_ports_are_those_of_the_contract(
    runtime: Any, under_kserve: Hosting, rendered: Rendered
) -> None:
    (container,) = runtime["containers"]
    settings = settings_of(container, rendered("kserve"), under_kserve)
    assert (settings.hosting, settings.model_name, settings.http_port) == ("kserve", "{{.Name}}", 8080)
    assert container["name"] == "kserve-container"
    asked = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {settings.http_port} == {int(runtime["annotations"]["prometheus.kserve.io/port"])}
    examples = documents((MANIFESTS / "overlays/kserve/example-inference-service.yaml").read_text())
    declared = [
        port["containerPort"] for each in examples for port in each["spec"]["predictor"]["model"].get("ports", [])
    ]
    assert declared == [settings.grpc_port]
    protocols = {each["spec"]["predictor"]["model"]["protocolVersion"] for each in examples}
    assert protocols <= set(runtime["protocolVersions"])


@pytest.mark.parametrize("name", DEPLOYED)
def test_files_that_settings_name_are_where_something_is_mounted(rendered: Rendered, name: str) -> None:
    for pod in pods(rendered(name)):
        (container,) = pod["containers"]
        environment = environment_of(container, rendered(name))
        paths = [value for key, value in environment.items() if value.startswith("/")]
        places = [mount["mountPath"] for mount in container["volumeMounts"]]
        repository = [argument for argument in container["args"] if argument.startswith("/")]
        for path in (*paths, *repository):
            assert any(path == place or path.startswith(f"{place}/") for place in places), path
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


# -- time and size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_grace_period_is_longer_than_a_drain_and_the_last_requests_may_take(rendered: Rendered, name: str) -> None:
    for pod in pods(rendered(name)):
        settings = settings_of(pod["containers"][0], rendered(name))
        assert pod["terminationGracePeriodSeconds"] > settings.drain_delay_secs + settings.exit_timeout_secs
        assert "lifecycle" not in pod["containers"][0]


def test_under_kserve_a_server_ends_within_the_grace_period_that_pods_have(
    runtime: Any, under_kserve: Hosting, rendered: Rendered
) -> None:
    settings = settings_of(runtime["containers"][0], rendered("kserve"), under_kserve)
    assert settings.drain_delay_secs + settings.exit_timeout_secs < KUBERNETES_GRACE_S


def test_under_kserve_a_server_is_given_as_long_to_start_as_it_waits_for_its_models(runtime: Any) -> None:
    late = KSERVE.hosting(Surroundings({"MODEL_INIT_MODE": "async"}, LocalFiles()))
    probe = runtime["containers"][0]["startupProbe"]
    waits_s = read_settings({}, {}, late).model_repository_wait_secs
    assert probe["periodSeconds"] * probe["failureThreshold"] >= waits_s > 0


@pytest.mark.parametrize("name", EVERYTHING)
def test_memory_is_requested_as_far_as_it_may_be_used(rendered: Rendered, name: str, runtime: Any) -> None:
    """--memory-limit=auto counts on 90 % of the container's limit, whatever the node has left."""
    containers = runtime["containers"] if name == "kserve" else [pod["containers"][0] for pod in pods(rendered(name))]
    assert read_settings({}, {}).memory_limit == "auto"
    for container in containers:
        requested, limit = (container["resources"][each] for each in ("requests", "limits"))
        assert requested["memory"] == limit["memory"]
        assert float(requested["cpu"]) <= float(limit["cpu"])
        # Instances are counted in whole processors.
        assert limit["cpu"].isdecimal()


@pytest.mark.parametrize("name", ["cpu", "gpu", "autoscale", "sharded"])
def test_a_replica_that_is_scaled_on_has_the_processors_that_it_counts(rendered: Rendered, name: str) -> None:
    for pod in pods(rendered(name)):
        resources = pod["containers"][0]["resources"]
        assert resources["requests"]["cpu"] == resources["limits"]["cpu"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_the_server_keeps_fits_into_its_volume(rendered: Rendered, name: str, runtime: Any) -> None:
    """A pod whose volume grows past its limit is evicted. A model that is being compiled needs room as well."""
    found = [runtime] if name == "kserve" else pods(rendered(name))
    for pod in found:
        (container,) = pod["containers"]
        environment = environment_of(container, rendered(name))
        sizes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        kept = int(environment["ORTOLAN_COMPILED_CACHE_SIZE"])
        assert 2 * kept <= bytes_of(sizes[mounts[environment["XDG_CACHE_HOME"]]])


def test_ingresses_let_in_what_the_server_takes(rendered: Rendered) -> None:
    for ingress in of_kind("Ingress", rendered(TOGETHER)):
        size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
        assert bytes_of(size.replace("m", "Mi")) == read_settings({}, {}).http_max_input_size


def test_nobody_outside_gives_up_before_a_model_that_loads_on_demand(rendered: Rendered) -> None:
    waited = {
        each["metadata"]["name"]: int(each["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"])
        for each in of_kind("Ingress", rendered(TOGETHER))
    }
    (route,) = of_kind("HTTPRoute", rendered(TOGETHER))
    times = [int(rule["timeouts"]["request"].removesuffix("s")) for rule in route["spec"]["rules"]]
    assert min(*waited.values(), *times) > read_settings({}, {}).load_on_demand_wait_secs


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tag"), [("base", "dev"), ("cpu", "dev"), ("gpu", "dev-gpu"), ("kserve", "dev")])
def test_images_are_those_that_the_dockerfile_tells_to_build(rendered: Rendered, name: str, tag: str) -> None:
    text = (MANIFESTS.parent / "Dockerfile").read_text()
    assert re.search(rf"--tag ortolan:{tag}(?: --target \w+)? \.$", text, re.MULTILINE)
    assert f"image: ortolan:{tag}\n" in yaml.safe_dump_all(rendered(name))


def test_the_image_for_gpus_runs_on_nothing_else(rendered: Rendered) -> None:
    (pod,) = pods(rendered("gpu"))
    (container,) = pod["containers"]
    assert settings_of(container, rendered("gpu")).device == "cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
