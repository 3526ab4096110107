from collections.abc import Mapping

import pytest
from hosting_trees import surroundings

from ortolan.hosting.kserve import KSERVE


def settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    return KSERVE.hosting(surroundings(environment)).settings


def test_ports_are_those_of_its_runtimes() -> None:
    found = settings({"PORT": "1"})
    assert (found["http_port"], found["grpc_port"]) == ("8080", "9000")
    assert found["http_address"] == found["grpc_address"] == "0.0.0.0"  # noqa: S104 - compared with


def test_over_knative_there_is_one_port() -> None:
    found = settings({"K_SERVICE": "iris-predictor", "PORT": "8012"})
    assert (found["http_port"], found["grpc_port"]) == ("8012", "8012")


def test_models_are_where_it_mounts_them() -> None:
    assert KSERVE.hosting(surroundings({})).model_path == "/mnt/models"


@pytest.mark.parametrize(
    ("environment", "field", "value"),
    [
        ({}, "listen_when_loaded", "true"),
        ({}, "model_repository_wait_secs", None),
        ({"MODEL_INIT_MODE": "async"}, "model_repository_wait_secs", "3600"),
        ({"MODEL_INIT_MODE": " Async "}, "model_repository_wait_secs", "3600"),
        ({"MODEL_INIT_MODE": "sync"}, "model_repository_wait_secs", None),
        ({"MULTI_MODEL_SERVER": "true"}, "model_control_mode", "explicit"),
        ({"MULTI_MODEL_SERVER": "false"}, "model_control_mode", None),
        ({}, "model_name", None),
        ({"K_SERVICE": "iris"}, "model_name", None),
        ({"K_SERVICE": "iris-predictor"}, "model_name", "iris"),
        ({"K_SERVICE": "iris-predictor-default"}, "model_name", "iris"),
        ({"K_SERVICE": "iris-transformer"}, "model_name", None),
    ],
)
def test_what_it_says_becomes_settings(environment: Mapping[str, str], field: str, value: str | None) -> None:
    assert settings(environment).get(field) == value


def test_stopping_takes_less_than_the_time_of_a_pod() -> None:
    # Traces and log lines take a few seconds more.
    assert 5 + float(settings({})["exit_timeout_secs"]) < 30 - 3
