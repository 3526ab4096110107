"""What the image's health check says, and what becomes of requests when a container is stopped."""

import json
import tempfile
import threading
import time
from pathlib import Path

import callers
import numpy as np
from built_image import Image, Say
from containers import IRIS, Container, container, ready
from server_process import eventually
from workshop import Workshop

RETRIES = 3
SLOW_STEPS = 6_000_000


def test_a_server_that_is_ready_is_healthy(served: Container, say: Say) -> None:
    began = time.monotonic()
    assert served.is_healthy()
    say(f"a health check takes {time.monotonic() - began:.2f} s, with what podman needs")


def test_a_server_with_a_model_that_fails_is_unhealthy(workshop: Workshop, image: Image) -> None:
    with tempfile.TemporaryDirectory(dir=workshop.folder / "temporary") as models:
        Path(models, "broken", "1").mkdir(parents=True)
        Path(models, "broken", "1", "model.onnx").write_bytes(b"no model")
        Path(models).chmod(0o755)
        options = [*counted_at_once(workshop, image), "--env=ORTOLAN_EXIT_ON_ERROR=false"]
        with container(workshop, image.tag, Path(models), options) as server:
            eventually(lambda: "cannot be served" in server.logs(), within_s=90)
            assert [server.is_healthy() for _ in range(RETRIES)] == [False] * RETRIES
            assert health_status(server) == "unhealthy"


def test_a_stop_tells_that_it_is_not_healthy_and_lets_a_slow_request_finish(
    workshop: Workshop, image: Image, repository: Path, say: Say
) -> None:
    with container(workshop, image.tag, repository) as server:
        ready(server)
        answers: list[callers.Reply] = []
        body = callers.rest_body(np.full((1, 4), SLOW_STEPS, np.float32))
        slow = threading.Thread(target=lambda: answers.append(server.ask("POST", "/v2/models/slow/infer", body)))
        slow.start()
        eventually(lambda: 'ortolan_requests_in_flight{model="slow",version="1"} 1' in server.metrics())
        began = time.monotonic()
        stop = workshop.start("podman", "stop", "--time=40", server.name)
        eventually(lambda: server.status_of("/v2/health/ready") == 503)
        assert not server.is_healthy()
        assert server.ask("POST", "/v2/models/iris/infer", IRIS).status == 200
        assert not answers
        assert stop.wait(timeout=60) == 0
        say(f"podman stop took {time.monotonic() - began:.1f} s, with a request inside")
        slow.join(timeout=30)
        assert [reply.status for reply in answers] == [200]
        assert server.inspected()["State"]["ExitCode"] == 0


def counted_at_once(workshop: Workshop, image: Image) -> list[str]:
    """The image's health check without its first minute, in which failures are not counted."""
    said = workshop.podman("image", "inspect", "--format={{json .HealthCheck.Test}}", image.tag).stdout
    command = json.loads(said)[1:]
    return [f"--health-cmd={json.dumps(command)}", f"--health-retries={RETRIES}", "--health-start-period=0s"]


def health_status(server: Container) -> str:
    """healthy, unhealthy or starting, as podman has it; its name for it has changed."""
    state = server.inspected()["State"]
    return str((state.get("Health") or state["Healthcheck"])["Status"])
