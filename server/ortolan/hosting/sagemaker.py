"""SageMaker: one model that was unpacked below /opt/ml, or many that the platform loads and unloads itself.

Sources: AWS' pages on containers of one's own for inference and on multi-model endpoints; for ``SAGEMAKER_TRITON_*``
the ``serve`` script of Triton's image. The platform starts a container with the one word ``serve``, asks on port 8080,
or on SAGEMAKER_BIND_TO_PORT, and sends SIGKILL 30 s after SIGTERM.
"""

import argparse
import shlex
from collections.abc import Mapping

from ortolan.errors import StartupError
from ortolan.hosting.contract import EVERY_ADDRESS, Contract, Hosting, Surroundings, is_true, port_of
from ortolan.triton_flags import add_foreign_flags

_BASE, _BASE_VARIABLE = "/opt/ml", "SAGEMAKER_BASE_DIR"
_TRITON = "SAGEMAKER_TRITON_"
_DEFAULT_PORT = 8080
_METRICS_PORT = 8002
# On machines where people work with SageMaker others are set as well.
_SIGNS = ("SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE")
# Whole names: beside a Service called sagemaker-triton Kubernetes sets SAGEMAKER_TRITON_PORT and more in every pod.
_TRITON_SIGNS = tuple(
    _TRITON + name
    for name in (
        "ADDITIONAL_ARGS ALLOW_GRPC ALLOW_METRICS BUFFER_MANAGER_THREAD_COUNT DEFAULT_MODEL_NAME "
        "DISABLE_MODEL_NAMESPACING GRPC_PORT INFERENCE_TYPE LOG_ERROR LOG_INFO LOG_VERBOSE LOG_WARNING METRICS_PORT "
        "MODEL_LOAD_GPU_LIMIT OVERRIDE_PING_MODE PING_MODE THREAD_COUNT"
    ).split()
)
# Less would leave no room for what models need while they answer, more would have the system end the process.
_MEMORY_FOR_MODELS = "75%"
_PASSED_ON = {
    "LOG_INFO": "log_info",
    "LOG_WARNING": "log_warning",
    "LOG_ERROR": "log_error",
    "INFERENCE_TYPE": "sagemaker_inference_type",
}
# In which a comma is part of a value.
_PARTED_BY_SEMICOLONS = frozenset({"http_restricted_api", "grpc_restricted_protocol", "trace_config", "cache_config"})


def _is_meant(surroundings: Surroundings) -> bool:
    """By what only the platform sets, or by the place of its model where nothing else says what to serve."""
    environment = surroundings.environment
    if any(environment.get(name) for name in (*_SIGNS, *_TRITON_SIGNS)):
        return True
    if is_true(environment.get("SAGEMAKER_MULTI_MODEL", "")):
        return True
    return not surroundings.models_are_told and surroundings.files.is_directory(f"{_base(environment)}/model")


def _hosting(surroundings: Surroundings) -> Hosting:
    environment = surroundings.environment
    settings = {
        "allow_sagemaker": "true",
        "http_address": EVERY_ADDRESS,
        "grpc_address": EVERY_ADDRESS,
        # With the time for what is running less than the 30 s. The platform sends no requests any more by then.
        "drain_delay_secs": "1",
        "exit_timeout_secs": "20",
        **_ports(environment),
        **_passed_on(environment),
    }
    model_path = ""
    if is_true(environment.get("SAGEMAKER_MULTI_MODEL", "")):
        settings |= _many_models(environment)
    else:
        settings |= _one_model(environment)
        model_path = f"{_base(environment)}/model"
    if ping := environment.get(f"{_TRITON}OVERRIDE_PING_MODE") or environment.get(f"{_TRITON}PING_MODE"):
        settings["sagemaker_ping_mode"] = ping
    return Hosting("SageMaker", settings | _additional(environment.get(f"{_TRITON}ADDITIONAL_ARGS", "")), model_path)


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What Triton's script makes flags of."""
    found = {
        field: environment[_TRITON + name] for name, field in _PASSED_ON.items() if environment.get(_TRITON + name)
    }
    if verbose := environment.get(f"{_TRITON}LOG_VERBOSE", "").strip():
        # It is a number or, as the others, a boolean.
        found["log_verbose"] = verbose if verbose.isdecimal() else str(int(is_true(verbose)))
    return found


def _one_model(environment: Mapping[str, str]) -> dict[str, str]:
    """Of several models in one repository only the one that is named, with those that it needs."""
    name = environment.get(f"{_TRITON}DEFAULT_MODEL_NAME", "")
    if not name:
        return {}
    return {"sagemaker_default_model": name, "model_control_mode": "explicit", "load_model": name}


def _many_models(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        "sagemaker_multi_model": "true",
        "model_control_mode": "explicit",
        "sagemaker_models_directory": f"{_base(environment)}/models",
        # A model that cannot be loaded says nothing of the others.
        "sagemaker_ping_mode": "live",
        "model_memory_budget": _MEMORY_FOR_MODELS,
    }


def _ports(environment: Mapping[str, str]) -> dict[str, str]:
    """Only one port is reached from outside; the others are for who asks for them, in the range that is free."""
    http = port_of(environment, "SAGEMAKER_BIND_TO_PORT", _DEFAULT_PORT)
    free = [port for port in _safe_ports(environment.get("SAGEMAKER_SAFE_PORT_RANGE", "")) if port != int(http)]
    settings = {"http_port": http, "allow_grpc": "false", "allow_metrics": "false"}
    if is_true(environment.get(f"{_TRITON}ALLOW_GRPC", "")):
        # By default on the port of HTTP: both can be told apart there.
        settings |= {"allow_grpc": "true", "grpc_port": _port(environment, "GRPC_PORT", free, int(http))}
    if is_true(environment.get(f"{_TRITON}ALLOW_METRICS", "")):
        settings |= {
            "allow_metrics": "true",
            "metrics_port": _port(environment, "METRICS_PORT", free[1:], _METRICS_PORT),
        }
    return settings


def _port(environment: Mapping[str, str], name: str, free: list[int], default: int) -> str:
    return port_of(environment, _TRITON + name, free[0] if free else default)


def _safe_ports(text: str) -> list[int]:
    """The first ports of a range such as 21000-21999; none for what is no range."""
    first, _, last = text.partition("-")
    if not (first.strip().isdecimal() and last.strip().isdecimal()):
        return []
    return list(range(int(first), min(int(last), int(first) + 3) + 1))


def _additional(arguments: str) -> dict[str, str]:
    """Flags as text → settings. Raises StartupError for what is none."""
    foreign = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_foreign_flags(foreign)
    known, words = foreign.parse_known_args(_words(arguments))
    found = {field: ";".join(value) if isinstance(value, list) else str(value) for field, value in vars(known).items()}
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise StartupError(f"{_TRITON}ADDITIONAL_ARGS expects flags such as --log-verbose=1, got {word!r}")
        flag, equals, value = word.partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        field = flag.removeprefix("--").replace("-", "_")
        separator = ";" if field in _PARTED_BY_SEMICOLONS else ","
        found[field] = f"{found[field]}{separator}{value}" if field in found else value
    return found


def _words(arguments: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise StartupError(f"{_TRITON}ADDITIONAL_ARGS cannot be read: {error}") from error


def _base(environment: Mapping[str, str]) -> str:
    return (environment.get(_BASE_VARIABLE) or _BASE).rstrip("/")


SAGEMAKER = Contract("sagemaker", _is_meant, _hosting)
