"""What beats what: defaults < the platform < ORTOLAN_* variables < flags."""

from collections.abc import Mapping

import pytest
from hosting_trees import Directories

from ortolan.errors import StartupError
from ortolan.settings import Settings, find_hosting, read_settings

KNATIVE = {"K_SERVICE": "iris", "PORT": "9090"}


def settings(flags: Mapping[str, object], environment: Mapping[str, str], *directories: str) -> Settings:
    return read_settings(flags, environment, find_hosting(flags, environment, Directories(*directories)))


@pytest.mark.parametrize(
    ("flags", "environment", "port"),
    [
        ({}, {}, 8000),
        ({}, KNATIVE, 9090),
        ({}, {**KNATIVE, "ORTOLAN_HTTP_PORT": "1"}, 1),
        ({"http_port": "2"}, {**KNATIVE, "ORTOLAN_HTTP_PORT": "1"}, 2),
        ({"http_port": "2"}, KNATIVE, 2),
        ({"hosting": "none"}, KNATIVE, 8000),
        ({}, {**KNATIVE, "ORTOLAN_HOSTING": "none"}, 8000),
        ({"hosting": "auto"}, {**KNATIVE, "ORTOLAN_HOSTING": "none"}, 9090),
        ({"hosting": "kserve"}, {"PORT": "9090"}, 8080),
    ],
)
def test_a_platforms_word_stands_between_defaults_and_people(
    flags: Mapping[str, object], environment: Mapping[str, str], port: int
) -> None:
    assert settings(flags, environment).http_port == port


@pytest.mark.parametrize(
    ("flags", "environment", "served"),
    [
        ({}, {}, ("/models",)),
        ({}, {"MODEL_INIT_MODE": "async"}, ("/mnt/models",)),
        ({"model_repository": ["/own"]}, {"MODEL_INIT_MODE": "async"}, ("/own",)),
        ({}, {"MODEL_INIT_MODE": "async", "ORTOLAN_MODEL_REPOSITORY": "/a,/b"}, ("/a", "/b")),
        ({}, {"AZUREML_MODEL_DIR": "/a, b/1"}, ("/a, b/1",)),  # one path, whatever is in it
    ],
)
def test_a_platforms_place_is_served_where_people_name_none(
    flags: Mapping[str, object], environment: Mapping[str, str], served: tuple[str, ...]
) -> None:
    assert settings(flags, environment, "/models").model_repository == served


def test_a_platform_that_is_not_known_is_refused() -> None:
    with pytest.raises(StartupError, match="--hosting"):
        settings({"hosting": "nowhere"}, {})
