"""Rendered manifests as the server sees them: its arguments, its variables, and what it makes of both."""

from typing import Any

from kustomize import OVERLAYS, TOGETHER, Manifest, of_kind

from ortolan.hosting.contract import Hosting
from ortolan.settings import Settings, read_settings

PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
EVERYTHING = ("base", *OVERLAYS, TOGETHER, "keda")
"""What ``rendered`` is asked for: every kind, and everything that can be had together."""
DEPLOYED = [name for name in EVERYTHING if name != "kserve"]
_UNITS = {"Gi": 1 << 30, "Mi": 1 << 20}


def bytes_of(quantity: str) -> int:
    """Of a size such as 8Gi."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def pods(manifests: list[Manifest]) -> list[Any]:
    """The specifications of all deployments' pods."""
    return [deployment["spec"]["template"]["spec"] for deployment in of_kind("Deployment", manifests)]


def environment_of(container: Any, manifests: list[Manifest]) -> dict[str, str]:
    """As the container sees it."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind("ConfigMap", manifests)}
    whole = [maps[source["configMapRef"]["name"]] for source in container.get("envFrom", [])]
    single = {each["name"]: each["value"] for each in container.get("env", [])}
    return {name: value for each in (*whole, single) for name, value in each.items()}


def settings_of(container: Any, manifests: list[Manifest], hosting: Hosting | None = None) -> Settings:
    """What the server makes of the container's arguments and environment; raises StartupError as it would."""
    command, *given = container["args"]
    assert command == "serve"
    flags = {flag.removeprefix("--").replace("-", "_"): value for flag, _, value in map(_parts, given) if flag}
    paths = [value for flag, _, value in map(_parts, given) if not flag]
    told = flags | ({"model_repository": paths} if paths else {})
    return read_settings(told, environment_of(container, manifests), hosting)


def _parts(argument: str) -> tuple[str, str, str]:
    return argument.partition("=") if argument.startswith("--") else ("", "", argument)
