"""The shipping files, as the tools that know their formats judge them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The oldest that k8s/README.md promises, and one that every kubernetes-validate we allow knows as recent.
KUBERNETES_VERSIONS = ("1.27", "1.32")


def tool(name: str) -> str:
    """Return the path of a command that stands next to this Python or on PATH; skip the test where there is none."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path) -> str:
    """Run a command at the top of the tree and return its output; fail with all that it said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def rendered_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kubectl apply -k k8s/base` would send, in one file."""
    path = tmp_path_factory.mktemp("rendered") / "base.yaml"
    path.write_text(run(tool("kubectl"), "kustomize", "k8s/base"))
    return path


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(tool("hadolint"), "Dockerfile")


def test_the_compose_file_is_of_the_compose_specification() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_every_field_of_the_rendered_base(rendered_base: Path, version: str) -> None:
    run(tool("kubernetes-validate"), "--strict", "-k", version, rendered_base)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_knows_every_field_of_the_loading_pod(version: str) -> None:
    run(tool("kubernetes-validate"), "--strict", "-k", version, "k8s/load-models.yaml")


def test_promtool_accepts_the_scrape_configuration() -> None:
    run(tool("promtool"), "check", "config", "k8s/prometheus/prometheus.yml")
