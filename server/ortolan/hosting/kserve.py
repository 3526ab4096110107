"""KServe: models at /mnt/models, HTTP on 8080 and gRPC on 9000, or both on PORT where it runs over Knative.

Sources: KServe's constants (``pkg/constants``), its built-in runtimes (``config/runtimes``) and its webhook for models
in images. A serving runtime gives ports and the model's name as flags; this is for what it leaves out.
"""

from collections.abc import Mapping

from ortolan.hosting.contract import EVERY_ADDRESS, Contract, Hosting, Surroundings, is_true, one_port, port_of

_MODELS = "/mnt/models"
_HTTP_PORT, _GRPC_PORT = "8080", "9000"
_DEFAULT_PORT = 8080
# An image with a large model may take as long to come to a node that has not had it.
_LATE_MOUNT_S = "3600"
# What KServe calls the Knative service of an InferenceService's predictor.
_PREDICTORS = ("-predictor-default", "-predictor")


def _is_meant(surroundings: Surroundings) -> bool:
    """By what KServe sets in a container, or by where it puts models in a cluster."""
    environment = surroundings.environment
    mounted = surroundings.files.is_directory(_MODELS)
    # Of a shell that has these names, who says what to serve there means no platform.
    in_pod = "KUBERNETES_SERVICE_HOST" in environment or not surroundings.models_are_told
    if in_pod and (_comes_late(environment) or is_true(environment.get("MULTI_MODEL_SERVER", ""))):
        return True
    if "STORAGE_URI" in environment and mounted:
        return True
    return "KUBERNETES_SERVICE_HOST" in environment and mounted and not surroundings.models_are_told


def _hosting(surroundings: Surroundings) -> Hosting:
    environment = surroundings.environment
    settings = _ports(environment) | {
        # Without a probe of the runtime's own KServe asks by TCP alone whether a container is ready.
        "listen_when_loaded": "true",
        # With the five seconds before it, less than the 30 that a pod has from SIGTERM on.
        "exit_timeout_secs": "18",
    }
    if _comes_late(environment):
        settings["model_repository_wait_secs"] = _LATE_MOUNT_S
    if is_true(environment.get("MULTI_MODEL_SERVER", "")):
        settings["model_control_mode"] = "explicit"
    if name := _inference_service(environment.get("K_SERVICE", "")):
        settings["model_name"] = name
    return Hosting("KServe", settings, _MODELS)


def _ports(environment: Mapping[str, str]) -> dict[str, str]:
    if environment.get("K_SERVICE"):
        return one_port(port_of(environment, "PORT", _DEFAULT_PORT))
    return {
        "http_address": EVERY_ADDRESS,
        "grpc_address": EVERY_ADDRESS,
        "http_port": _HTTP_PORT,
        "grpc_port": _GRPC_PORT,
    }


def _comes_late(environment: Mapping[str, str]) -> bool:
    """Whether models are in an image of their own; others have a variable of that name, with other values."""
    return environment.get("MODEL_INIT_MODE", "").strip().lower() == "async"


def _inference_service(service: str) -> str:
    """The InferenceService that a Knative service is the predictor of, or ""."""
    return next((service.removesuffix(end) for end in _PREDICTORS if service.endswith(end)), "")


KSERVE = Contract("kserve", _is_meant, _hosting)
