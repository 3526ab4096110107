"""The image, built once from the Dockerfile of this tree, and models for it."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import heavy_models
import needed_programs
import onnx_models
import pytest
import stand_in
from built_image import TAG, Builder, Image, Say, image_of
from containers import Container, container, ready
from workshop import ROOT, Workshop

_SAID = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    return request.config.stash.setdefault(_SAID, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was measured."""
    terminalreporter.section("the image in figures")
    for line in config.stash.get(_SAID, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    """On a disk, as layers are no files for memory. IMAGE_STORAGE names a folder that is kept, for the next time."""
    if missing := needed_programs.missing():
        pytest.skip(f"not installed: {', '.join(missing)}; `make image-test` installs them")
    if os.geteuid() != 0:
        pytest.skip("building and running containers needs root here")
    kept = os.environ.get("IMAGE_STORAGE")
    folder = Path(kept or tempfile.mkdtemp(prefix="ortolan-image-", dir="/var/tmp"))
    place = Workshop(folder.resolve())
    place.open()
    yield place
    place.close()
    if not kept:
        place.remove_images()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def builder(workshop: Workshop, say: Say) -> Builder:
    """Builds targets of the Dockerfile."""
    began = time.monotonic()
    origin = stand_in.ensure_base(workshop)
    say(f"the base image is {origin}: {time.monotonic() - began:.0f} s")

    def build(tag: str, *arguments: str) -> Image:
        began = time.monotonic()
        said = workshop.build(tag, ROOT, *arguments)
        say(f"{tag} was built in {time.monotonic() - began:.0f} s")
        for line in said.splitlines():
            if " MB less: " in line:
                say(line)
        return image_of(workshop, tag)

    return build


@pytest.fixture(scope="session")
def image(builder: Builder) -> Image:
    return builder(TAG)


@pytest.fixture(scope="session")
def models() -> Path:
    """The example models."""
    return ROOT / "model_repo"


@pytest.fixture(scope="session")
def repository(models: Path, workshop: Workshop) -> Iterator[Path]:
    """The example models, and two that do as a request says: take time, take memory."""
    # Not pytest's folder, which only its own user may enter.
    path = Path(tempfile.mkdtemp(dir=workshop.folder / "temporary"))
    for model in ("digits", "iris", "language", "wine"):
        shutil.copytree(models / model, path / model)
    onnx_models.save_version(path, "slow", onnx_models.slow_as_asked())
    onnx_models.save_version(path, "large", heavy_models.as_large_as_asked())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def served(workshop: Workshop, image: Image, repository: Path, say: Say) -> Iterator[Container]:
    """A container that serves ``repository``, with all rights taken away."""
    with container(workshop, image.tag, repository) as server:
        say(f"ready {ready(server):.1f} s after podman had started it")
        yield server
