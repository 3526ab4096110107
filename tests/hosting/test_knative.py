import pytest
from hosting_trees import surroundings

from ortolan.hosting.knative import KNATIVE

SERVICE = {"K_SERVICE": "iris"}


@pytest.mark.parametrize(("port", "expected"), [("9090", "9090"), (" 80 ", "80"), ("", "8080"), (None, "8080")])
def test_http_and_grpc_share_the_port_that_the_platform_names(port: str | None, expected: str) -> None:
    settings = KNATIVE.hosting(surroundings(SERVICE | ({} if port is None else {"PORT": port}))).settings
    assert (settings["http_port"], settings["grpc_port"]) == (expected, expected)
    assert settings["http_address"] == settings["grpc_address"] == "0.0.0.0"  # noqa: S104 - compared with


def test_metrics_leave_their_port_to_requests() -> None:
    assert KNATIVE.hosting(surroundings({**SERVICE, "PORT": "8002"})).settings["metrics_port"] == "0"
    assert "metrics_port" not in KNATIVE.hosting(surroundings({**SERVICE, "PORT": "8003"})).settings


def test_stopping_takes_less_than_the_ten_seconds_that_there_are() -> None:
    settings = KNATIVE.hosting(surroundings(SERVICE)).settings
    # Traces and log lines take a few seconds more.
    assert float(settings["drain_delay_secs"]) + float(settings["exit_timeout_secs"]) < 10 - 3


@pytest.mark.parametrize(("directories", "path"), [((), ""), (("/models",), "/models")])
def test_models_are_where_the_image_has_them(directories: tuple[str, ...], path: str) -> None:
    assert KNATIVE.hosting(surroundings(SERVICE, *directories)).model_path == path
