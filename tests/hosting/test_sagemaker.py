from collections.abc import Mapping

import pytest
from hosting_trees import surroundings

from ortolan.errors import StartupError
from ortolan.hosting.sagemaker import SAGEMAKER
from ortolan.settings import read_settings

MANY = {"SAGEMAKER_MULTI_MODEL": "true"}
GRPC = {"SAGEMAKER_TRITON_ALLOW_GRPC": "true"}
METRICS = {"SAGEMAKER_TRITON_ALLOW_METRICS": "true"}
RANGE = {"SAGEMAKER_SAFE_PORT_RANGE": "21000-21999"}


@pytest.mark.parametrize(
    ("environment", "directories", "told", "meant"),
    [
        ({}, (), False, False),
        ({}, ("/opt/ml/model",), False, True),
        ({}, ("/opt/ml/model",), True, False),  # somebody says what is to be served, on whatever machine
        ({"SAGEMAKER_BASE_DIR": "/b"}, ("/opt/ml/model",), False, False),
        ({"SAGEMAKER_BASE_DIR": "/b/"}, ("/b/model",), False, True),
        ({"SAGEMAKER_BIND_TO_PORT": "8080"}, (), True, True),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "1-2"}, (), True, True),
        (MANY, (), True, True),
        ({"SAGEMAKER_MULTI_MODEL": ""}, (), False, False),
        ({"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"}, (), True, True),
        ({"SAGEMAKER_APP_TYPE": "JupyterLab", "SAGEMAKER_REGION": "eu"}, (), True, False),  # where people work
    ],
)
def test_it_is_known_by_what_only_it_sets_and_by_its_model_where_nothing_else_is_served(
    environment: Mapping[str, str], directories: tuple[str, ...], told: bool, meant: bool
) -> None:
    assert SAGEMAKER.is_meant(surroundings(environment, *directories, models_are_told=told)) is meant


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, {"http_port": "8080", "http_address": "0.0.0.0", "allow_grpc": "false", "allow_metrics": "false"}),  # noqa: S104
        ({"SAGEMAKER_BIND_TO_PORT": "9000"}, {"http_port": "9000"}),
        (GRPC, {"allow_grpc": "true", "grpc_port": "8080"}),  # both on the one port that is reached
        ({**GRPC, **RANGE}, {"grpc_port": "21000"}),
        ({**GRPC, **RANGE, "SAGEMAKER_BIND_TO_PORT": "21000"}, {"http_port": "21000", "grpc_port": "21001"}),
        ({**GRPC, "SAGEMAKER_TRITON_GRPC_PORT": "8001"}, {"grpc_port": "8001"}),
        (METRICS, {"allow_metrics": "true", "metrics_port": "8002"}),
        ({**METRICS, **RANGE}, {"metrics_port": "21001"}),
        ({**METRICS, "SAGEMAKER_TRITON_METRICS_PORT": "7"}, {"metrics_port": "7"}),
        ({**METRICS, "SAGEMAKER_SAFE_PORT_RANGE": "any"}, {"metrics_port": "8002"}),
        ({"SAGEMAKER_TRITON_LOG_VERBOSE": "2"}, {"log_verbose": "2"}),
        ({"SAGEMAKER_TRITON_LOG_VERBOSE": "true"}, {"log_verbose": "1"}),
        ({"SAGEMAKER_TRITON_LOG_VERBOSE": "false"}, {"log_verbose": "0"}),
        (
            {f"SAGEMAKER_TRITON_LOG_{level}": "false" for level in ("INFO", "WARNING", "ERROR")},
            {"log_info": "false", "log_warning": "false", "log_error": "false"},
        ),
        ({"SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}, {"sagemaker_inference_type": "generate"}),
        ({"SAGEMAKER_TRITON_THREAD_COUNT": "8", "SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT": "0:0.9"}, {}),
        (
            {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "a"},
            {"sagemaker_default_model": "a", "model_control_mode": "explicit", "load_model": "a"},
        ),
        (
            MANY,
            {
                "sagemaker_multi_model": "true",
                "model_control_mode": "explicit",
                "sagemaker_models_directory": "/opt/ml/models",
                "sagemaker_ping_mode": "live",
                "model_memory_budget": "75%",
            },
        ),
        ({**MANY, "SAGEMAKER_TRITON_PING_MODE": "ready"}, {"sagemaker_ping_mode": "ready"}),
        (
            {"SAGEMAKER_TRITON_PING_MODE": "ready", "SAGEMAKER_TRITON_OVERRIDE_PING_MODE": "live"},
            {"sagemaker_ping_mode": "live"},
        ),
        (
            {"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--log-verbose=2 --id 'a b' --strict-readiness --http-port=7"},
            {"log_verbose": "2", "id": "a b", "strict_readiness": "true", "http_port": "7"},
        ),
        (
            {"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--trace-config=level=TIMESTAMPS --trace-config rate=1"},
            {"trace_config": "level=TIMESTAMPS;rate=1"},
        ),
        (
            {"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--backend-config=default-max-batch-size=8 --trace-rate=2"},
            {"default_max_batch_size": "8", "trace_config": "rate=2"},
        ),
    ],
)
def test_what_it_says_becomes_settings(environment: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    hosting = SAGEMAKER.hosting(surroundings(environment))
    assert {field: hosting.settings[field] for field in wanted} == wanted
    assert read_settings({}, {}, hosting).allow_sagemaker


def test_one_model_is_where_it_is_unpacked_and_many_are_nowhere_yet() -> None:
    assert SAGEMAKER.hosting(surroundings({})).model_path == "/opt/ml/model"
    assert SAGEMAKER.hosting(surroundings({"SAGEMAKER_BASE_DIR": "/b"})).model_path == "/b/model"
    assert SAGEMAKER.hosting(surroundings(MANY)).model_path == ""


def test_stopping_takes_less_than_the_time_that_there_is() -> None:
    settings = SAGEMAKER.hosting(surroundings({})).settings
    # Traces and log lines take a few seconds more.
    assert float(settings["drain_delay_secs"]) + float(settings["exit_timeout_secs"]) < 30 - 3


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SAGEMAKER_BIND_TO_PORT": "no"}, "SAGEMAKER_BIND_TO_PORT must be a port from 1 to 65535, got 'no'"),
        ({"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--id='a"}, "SAGEMAKER_TRITON_ADDITIONAL_ARGS cannot be read"),
        ({"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "8"}, "expects flags such as --log-verbose=1, got '8'"),
        ({"SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--htpp-port=8"}, "--htpp-port"),
        ({"SAGEMAKER_TRITON_PING_MODE": "dead"}, "--sagemaker-ping-mode"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(environment: Mapping[str, str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        read_settings({}, {}, SAGEMAKER.hosting(surroundings(environment)))
