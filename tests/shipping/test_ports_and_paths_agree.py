"""One fact, one value: what the Dockerfile, the compose file, the manifests and Prometheus say of the same server."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ortolan.hosting.contract import IMAGE_MODELS
from ortolan.settings import ENVIRONMENT_PREFIX, Settings, read_settings

yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[2]
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


def read_yaml(path: str) -> Any:
    """Return the one document of a file of this tree."""
    return yaml.safe_load((ROOT / path).read_text())


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions in order, as (KEYWORD, the rest on one line)."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def stages(dockerfile: str) -> dict[str, dict[str, str]]:
    """Return for each stage of a Dockerfile, in order, the last instruction of each kind, its parents' included."""
    found: dict[str, dict[str, str]] = {}
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = dict(found.get(parent, {}))
        if found:
            found[name][word] = rest
    return found


@pytest.fixture(scope="module")
def image() -> dict[str, str]:
    """What holds in the image that is built when no target is named: the last one."""
    return list(stages((ROOT / "Dockerfile").read_text()).values())[-1]


@pytest.fixture(scope="module")
def compose() -> Any:
    return read_yaml("docker-compose.yml")["services"]


@pytest.fixture(scope="module")
def pod() -> Any:
    return read_yaml("k8s/base/deployment.yaml")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    return pod["containers"][0]


def test_image_and_compose_and_pod_open_the_same_ports(image: dict[str, str], compose: Any, container: Any) -> None:
    published = [re.findall(r"\d+", port)[-2:] for port in compose["ortolan"]["ports"]]
    assert {int(port) for port in image["EXPOSE"].split()} == set(PORTS.values())
    assert published == [[str(port)] * 2 for port in PORTS.values()]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == PORTS


def test_those_are_the_ports_of_a_server_that_is_told_nothing() -> None:
    told_nothing = read_settings({}, {})
    assert {name: getattr(told_nothing, f"{name}_port") for name in PORTS} == PORTS


def test_each_variable_of_the_image_is_a_setting(image: dict[str, str]) -> None:
    names = re.findall(rf"{ENVIRONMENT_PREFIX}(\w+)=", image["ENV"])
    assert {name.lower() for name in names} == {"http_address", "grpc_address"}
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_compose_publishes_to_this_machine_only(compose: Any) -> None:
    ports = [port for service in compose.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_scrapes_the_metrics_port_of_the_server_by_its_name(compose: Any) -> None:
    scrape = read_yaml("k8s/prometheus/prometheus.yml")["scrape_configs"][0]
    (target,) = scrape["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert name in compose
    services = yaml.safe_load_all((ROOT / "k8s/base/service.yaml").read_text())
    assert name in {service["metadata"]["name"] for service in services}
    assert (int(port), scrape["metrics_path"]) == (PORTS["metrics"], "/metrics")


def test_compose_gives_prometheus_the_configuration_of_this_tree(compose: Any) -> None:
    source, _, mode = compose["prometheus"]["volumes"][0].split(":")
    assert (ROOT / source).is_file()
    assert mode == "ro"


def test_the_health_check_and_the_probes_ask_the_same_questions(image: dict[str, str], container: Any) -> None:
    asked = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert asked["readinessProbe"] == "/v2/health/ready"
    assert asked["startupProbe"] == asked["livenessProbe"] == "/v2/health/live"
    assert image["HEALTHCHECK"].endswith(' CMD ["ortolan", "health"]')


def test_the_models_are_served_from_where_they_are_mounted(image: dict[str, str], compose: Any, container: Any) -> None:
    source, target, mode = compose["ortolan"]["volumes"][0].split(":")
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    # The image names no place: a platform may, and else it is this one.
    assert (json.loads(image["CMD"]), target) == (["serve"], IMAGE_MODELS)
    assert container["args"] == ["serve", target]
    assert (ROOT / source).is_dir()
    assert mode == "ro"
    assert (mounts["models"]["mountPath"], mounts["models"]["readOnly"]) == (target, True)


def test_the_root_is_read_only_and_tmp_is_not(compose: Any, container: Any) -> None:
    assert compose["ortolan"]["read_only"]
    assert compose["ortolan"]["tmpfs"] == ["/tmp"]  # noqa: S108
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108


def test_the_pod_runs_as_the_user_of_the_image(image: dict[str, str], pod: Any) -> None:
    context = pod["securityContext"]
    assert image["USER"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["fsGroup"] == context["runAsGroup"]
    assert context["runAsNonRoot"]
    assert read_yaml("k8s/load-models.yaml")["spec"]["securityContext"]["runAsUser"] == context["runAsUser"]


def test_compose_builds_the_image_that_the_pod_names(compose: Any, container: Any) -> None:
    (override,) = read_yaml("k8s/base/kustomization.yaml")["images"]
    assert container["image"] == override["name"]
    assert compose["ortolan"]["image"] == f"{override['name']}:{override['newTag']}"


def test_compose_and_kubernetes_wait_equally_long_for_a_drain(compose: Any, pod: Any) -> None:
    assert compose["ortolan"]["stop_grace_period"] == f"{pod['terminationGracePeriodSeconds']}s"


def test_the_wait_is_longer_than_a_drain_and_the_last_requests_may_take(pod: Any) -> None:
    told_nothing = read_settings({}, {})
    assert pod["terminationGracePeriodSeconds"] > told_nothing.drain_delay_secs + told_nothing.exit_timeout_secs


def test_no_variable_of_a_service_can_pass_for_a_setting(pod: Any) -> None:
    assert pod["enableServiceLinks"] is False


def test_the_image_runs_and_describes_the_package_of_this_tree(image: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (command,) = json.loads(image["ENTRYPOINT"])
    assert command in project["scripts"]
    assert f'description="{project["description"]}"' in image["LABEL"]
    assert f'licenses="{project["license"]}"' in image["LABEL"]
    assert "ORT_DISABLE_TELEMETRY=1" in image["ENV"]


def test_the_image_for_gpus_differs_in_its_packages_and_what_it_asks_the_container_toolkit_for() -> None:
    dockerfile = stages((ROOT / "Dockerfile").read_text())
    own = {"FROM", "COPY", "ENV"}
    rest = [{word: value for word, value in dockerfile[name].items() if word not in own} for name in ("cpu", "gpu")]
    assert rest[0] == rest[1]
    assert "NVIDIA" not in dockerfile["cpu"]["ENV"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in dockerfile["gpu"]["ENV"]
    assert dockerfile["cpu-packages"]["ARG"] == dockerfile["gpu-packages"]["ARG"]


def test_compose_runs_the_image_for_gpus_like_the_other(compose: Any) -> None:
    own = {"build", "image", "mem_limit", "profiles", "networks", "deploy"}
    assert {key: value for key, value in compose["ortolan-gpu"].items() if key not in own} == {
        key: value for key, value in compose["ortolan"].items() if key not in own
    }
    assert compose["ortolan-gpu"]["build"]["target"] == "gpu"


def test_the_extras_of_the_image_are_extras_of_the_package() -> None:
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = stages((ROOT / "Dockerfile").read_text())["cpu-packages"]["ARG"].partition("=")[2].split(",")
    assert {*extras} <= {*optional} - {"cpu", "gpu", "dev"}


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = [rest.split() for word, rest in instructions((ROOT / "Dockerfile").read_text()) if word == "COPY"]
    sources = {source for words in copies if not words[0].startswith("--from") for source in words[:-1]}
    assert sources == admitted
    assert [source for source in sources if not (ROOT / source).exists()] == []
