"""Which ports and paths the manifests name, and who can reach them, against the server's own code."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from kustomize import MANIFESTS, TOGETHER, Manifest, Rendered, of_kind
from manifests import DEPLOYED, EVERYTHING, PORTS, pods

from ortolan.frontends.access.operations import Operation
from ortolan.frontends.rest.operations import operation_of


@pytest.fixture(scope="module")
def runtime(rendered: Rendered) -> Any:
    (found,) = of_kind("ClusterServingRuntime", rendered("kserve"))
    return found["spec"]


@pytest.mark.parametrize("name", DEPLOYED)
def test_services_policies_and_monitors_name_ports_that_containers_have(rendered: Rendered, name: str) -> None:
    for pod in pods(rendered(name)):
        assert {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]} == PORTS
    for service in of_kind("Service", rendered(name)):
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["port"]) == (port["name"], PORTS[port["name"]])
    opened = [
        port["port"]
        for policy in of_kind("NetworkPolicy", rendered(name))
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]
    assert set(opened) <= set(PORTS)
    for monitor in of_kind("PodMonitor", rendered(name)):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")


@pytest.mark.parametrize("name", EVERYTHING)
def test_probes_ask_what_anybody_may(rendered: Rendered, name: str, runtime: Any) -> None:
    containers = runtime["containers"] if name == "kserve" else [pod["containers"][0] for pod in pods(rendered(name))]
    for container in containers:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = operation_of("GET", container[probe]["httpGet"]["path"])
            assert asked is not None
            assert asked.operation.scopes == ()
        assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
        assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_with_a_certificate_probes_and_services_say_so(rendered: Rendered) -> None:
    for manifests, scheme, spoken in (
        (rendered("cpu"), "HTTP", {"http": "http", "grpc": "kubernetes.io/h2c", "metrics": "http"}),
        (rendered(TOGETHER), "HTTPS", {"http": "https", "grpc": "https", "metrics": "http"}),
    ):
        (pod,) = pods(manifests)
        probes = (
            pod["containers"][0][probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        )
        assert {probe.get("scheme", "HTTP") for probe in probes} == {scheme}
        for service in of_kind("Service", manifests):
            for port in service["spec"]["ports"]:
                assert port["appProtocol"] == spoken[port["name"]]


# What a client asks, and what is for operators.
FROM_OUTSIDE = [
    ("GET", "/v2"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/digits"),
    ("POST", "/v2/models/digits/versions/1/infer"),
    ("POST", "/v1/models/digits:predict"),
]
FROM_INSIDE = [
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/digits/load"),
    ("POST", "/v2/logging"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/systemsharedmemory/region/r/register"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
]


def open_paths(manifests: list[Manifest]) -> Iterator[list[tuple[bool, str]]]:
    """For the Ingress and for the HTTPRoute: whether a path is meant exactly, and the path."""
    (ingress,) = (each for each in of_kind("Ingress", manifests) if each["metadata"]["name"] == "ortolan")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    yield [(path["pathType"] == "Exact", path["path"]) for path in paths]
    (route,) = of_kind("HTTPRoute", manifests)
    matches = [match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    yield [(match["type"] == "Exact", match["value"]) for match in matches]


@pytest.mark.parametrize(("method", "path"), [*FROM_OUTSIDE, *FROM_INSIDE])
def test_from_outside_only_what_clients_ask_can_be_asked(rendered: Rendered, method: str, path: str) -> None:
    asked = operation_of(method, path)
    assert asked is not None, "no route of the server"
    for paths in open_paths(rendered(TOGETHER)):
        let_in = any(path == place or (not exact and path.startswith(f"{place}/")) for exact, place in paths)
        assert let_in == ((method, path) in FROM_OUTSIDE)
        assert not (let_in and _is_for_operators(asked.operation))


def _is_for_operators(operation: Operation) -> bool:
    return operation.is_admin or operation.name in ("Metrics", "RepositoryIndex")


def test_routes_lead_to_ports_of_services_that_are_there(rendered: Rendered) -> None:
    for name in (TOGETHER, "sharded"):
        services = {each["metadata"]["name"]: each for each in of_kind("Service", rendered(name))}
        routes = [*of_kind("HTTPRoute", rendered(name)), *of_kind("GRPCRoute", rendered(name))]
        for backend in (each for route in routes for rule in route["spec"]["rules"] for each in rule["backendRefs"]):
            ports = {port["port"] for port in services[backend["name"]]["spec"]["ports"]}
            assert backend["port"] in ports
    services = {each["metadata"]["name"]: each for each in of_kind("Service", rendered(TOGETHER))}
    for ingress in of_kind("Ingress", rendered(TOGETHER)):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            names = {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
            assert backend["port"]["name"] in names


def test_grpc_routes_name_services_of_the_protocol(rendered: Rendered) -> None:
    (route,) = of_kind("GRPCRoute", rendered(TOGETHER))
    named = {match["method"]["service"] for rule in route["spec"]["rules"] for match in rule["matches"]}
    text = "".join(path.read_text() for path in (MANIFESTS.parent / "protos").glob("*.proto"))
    packages = re.findall(r"^package (\S+);", text, re.MULTILINE)
    own = {
        f"{package}.{service}" for package in packages for service in re.findall(r"^service (\w+)", text, re.MULTILINE)
    }
    assert named <= own | {"grpc.health.v1.Health"}
