"""Vertex AI: one port and two paths that AIP_* name, and models that the container fetches itself.

Sources: Google's page on the requirements of custom containers for prediction; what Triton makes of the same variables.
"""

from collections.abc import Mapping

from ortolan.hosting.contract import EVERY_ADDRESS, IMAGE_MODELS, Contract, Hosting, Surroundings, port_of

_DEFAULT_PORT = 8080
# Where HTTP is there, metrics have any other port; the HTTP port tells them too.
_METRICS_PORT = "8002"


def _is_meant(surroundings: Surroundings) -> bool:
    environment = surroundings.environment
    return environment.get("AIP_MODE", "").strip().upper() == "PREDICTION" or bool(environment.get("AIP_PREDICT_ROUTE"))


def _hosting(surroundings: Surroundings) -> Hosting:
    environment = surroundings.environment
    settings = {
        "allow_vertex_ai": "true",
        "http_address": EVERY_ADDRESS,
        "grpc_address": EVERY_ADDRESS,
        "http_port": port_of(environment, "AIP_HTTP_PORT", _DEFAULT_PORT),
        # One port is reached, by HTTP/1. Metrics are read there as well, by a header of Triton's.
        "allow_grpc": "false",
        # Alive is who can be connected to, and is killed after some 40 s if it cannot: the port opens before the models
        # are there, and the health route says when they are.
        "listen_when_loaded": "false",
        **_routes(environment),
    }
    if settings["http_port"] == _METRICS_PORT:
        settings["metrics_port"] = "0"
    storage = environment.get("AIP_STORAGE_URI", "").strip()
    if not storage and surroundings.files.is_directory(IMAGE_MODELS):
        storage = IMAGE_MODELS
    return Hosting("Vertex AI", settings, storage)


def _routes(environment: Mapping[str, str]) -> dict[str, str]:
    named = {
        "vertex_ai_predict_route": environment.get("AIP_PREDICT_ROUTE", ""),
        "vertex_ai_health_route": environment.get("AIP_HEALTH_ROUTE", ""),
    }
    return {field: path for field, path in named.items() if path}


VERTEX = Contract("vertex", _is_meant, _hosting)
