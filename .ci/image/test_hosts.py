"""How those start the image who bring their own way: compose, SageMaker, and machines with and without GPUs."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from built_image import GPU_TAG, Builder, Image, Say
from containers import IRIS, Container, container, free_ports, ready
from server_process import eventually
from workshop import ROOT, Workshop

COMPOSE = "podman-compose"


@pytest.mark.usefixtures("image")
def test_compose_brings_it_up(workshop: Workshop) -> None:
    if shutil.which(COMPOSE, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("podman-compose is not installed")
    ports = free_ports()
    published = {f"PUBLISH_{name.upper()}": str(port) for name, port in ports.items()}
    project = f"ortolan-test-{os.getpid()}"
    command = (COMPOSE, "--project-name", project, "--file", ROOT / "docker-compose.yml")
    try:
        workshop.run(*command, "up", "--detach", "--no-build", "ortolan", environment=published)
        label = f"--filter=label=com.docker.compose.project={project}"
        (name,) = workshop.podman("ps", "--format={{.Names}}", label).stdout.split()
        server = Container(workshop, name, ports)
        ready(server)
        host = server.inspected()["HostConfig"]
        assert (host["ReadonlyRootfs"], host["Memory"]) == (True, 2 << 30)
        assert server.is_healthy()
        assert server.ask("POST", "/v2/models/iris/infer", IRIS).status == 200
    finally:
        workshop.run(*command, "down", "--timeout", "40", check=False, environment=published)


def test_sagemaker_starts_it_with_serve_alone(workshop: Workshop, image: Image, models: Path) -> None:
    """Its port is 8080, unless SAGEMAKER_BIND_TO_PORT names another; a model lies where it puts models."""
    options = [f"--volume={models}/iris:/opt/ml/model:ro", "--env=SAGEMAKER_BIND_TO_PORT=8000"]
    with container(workshop, image.tag, models, options, ["serve"]) as server:
        eventually(lambda: server.status_of("/ping") == 200, within_s=90)


@pytest.mark.parametrize(
    ("place", "environment", "ready_path"),
    [
        ("/var/azureml-app/models/iris", {"AZUREML_MODEL_DIR": "/var/azureml-app/models"}, "/v2/health/ready"),
        (
            "/storage/iris",
            {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": "8000", "AIP_STORAGE_URI": "/storage",
             "AIP_HEALTH_ROUTE": "/ok", "AIP_PREDICT_ROUTE": "/ask"},
            "/ok",
        ),
    ],
    ids=["Azure ML", "Vertex AI"],
)  # fmt: skip
def test_a_platform_that_gives_no_command_says_where_its_models_are(
    workshop: Workshop, image: Image, models: Path, place: str, environment: dict[str, str], ready_path: str
) -> None:
    options = [f"--volume={models}/iris:{place}:ro", *(f"--env={name}={text}" for name, text in environment.items())]
    with container(workshop, image.tag, models, options) as server:
        eventually(lambda: server.status_of(ready_path) == 200, within_s=90)
        assert server.status_of("/v2/models/wine") == 404


@pytest.mark.skipif(not os.environ.get("IMAGE_GPU"), reason="IMAGE_GPU=1 builds it too: gigabytes to fetch")
def test_the_gpu_image_is_built_and_says_that_there_is_no_gpu(
    workshop: Workshop, builder: Builder, models: Path, say: Say
) -> None:
    say(str(built := builder(GPU_TAG, "--target=gpu")))
    with container(workshop, built.tag, models) as server:
        ready(server)
        assert "no GPU was found: models run on the CPU" in server.logs()
        assert server.ask("POST", "/v2/models/iris/infer", IRIS).status == 200
