from collections.abc import Mapping

import pytest
from hosting_trees import surroundings

from ortolan.errors import StartupError
from ortolan.hosting.vertex import VERTEX
from ortolan.settings import read_settings

PREDICTION = {"AIP_MODE": "PREDICTION"}


@pytest.mark.parametrize(
    ("environment", "meant"),
    [
        ({}, False),
        (PREDICTION, True),
        ({"AIP_MODE": "TRAINING"}, False),
        ({"AIP_HTTP_PORT": "8080"}, False),  # says nothing of predictions
        ({"AIP_PREDICT_ROUTE": "/p"}, True),
        ({"AIP_PREDICT_ROUTE": ""}, False),
    ],
)
def test_it_is_known_by_what_it_sets_for_predictions(environment: Mapping[str, str], meant: bool) -> None:
    assert VERTEX.is_meant(surroundings(environment, models_are_told=True)) is meant


@pytest.mark.parametrize(
    ("environment", "directories", "wanted", "path"),
    [
        (PREDICTION, (), {"http_port": "8080", "http_address": "0.0.0.0", "allow_grpc": "false"}, ""),  # noqa: S104
        ({"AIP_HTTP_PORT": "7080"}, (), {"http_port": "7080"}, ""),
        ({"AIP_HTTP_PORT": "8002"}, (), {"http_port": "8002", "metrics_port": "0"}, ""),
        (
            {"AIP_PREDICT_ROUTE": "/p:predict", "AIP_HEALTH_ROUTE": "/h"},
            (),
            {"vertex_ai_predict_route": "/p:predict", "vertex_ai_health_route": "/h"},
            "",
        ),
        ({"AIP_STORAGE_URI": "gs://b/m"}, ("/models",), {}, "gs://b/m"),
        ({"AIP_STORAGE_URI": "/m"}, (), {}, "/m"),
        ({"AIP_STORAGE_URI": " "}, (), {}, ""),
        ({"AIP_STORAGE_URI": ""}, ("/models",), {}, "/models"),  # they are in the image
    ],
)
def test_what_it_says_becomes_settings(
    environment: Mapping[str, str], directories: tuple[str, ...], wanted: Mapping[str, str], path: str
) -> None:
    hosting = VERTEX.hosting(surroundings(environment, *directories))
    assert {field: hosting.settings[field] for field in wanted} == wanted
    assert (hosting.model_path, read_settings({}, {}, hosting).allow_vertex_ai) == (path, True)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AIP_HTTP_PORT": "0"}, "AIP_HTTP_PORT must be a port from 1 to 65535, got '0'"),
        ({"AIP_PREDICT_ROUTE": "predict"}, "--vertex-ai-predict-route expects the path of a URL"),
        ({"AIP_PREDICT_ROUTE": "/{model}"}, "--vertex-ai-predict-route expects the path of a URL"),
        ({"AIP_HEALTH_ROUTE": "/h?x=1"}, "--vertex-ai-health-route expects the path of a URL"),
        ({"AIP_HEALTH_ROUTE": "/p", "AIP_PREDICT_ROUTE": "/p"}, "must not be the same"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(environment: Mapping[str, str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        read_settings({}, {}, VERTEX.hosting(surroundings(environment)))
