"""Manifests as a cluster gets them: kustomize, to fetch it (``python tests/kustomize.py``), to find it, to run it.

``kubectl kustomize`` does as well. What is fetched is Debian's package, unpacked and not installed; there is one from
the release after bookworm on.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from foreign_packages import FAILURES, unpack_from_release, unpack_packages

MANIFESTS = Path(__file__).resolve().parent.parent / "k8s"
HOME = Path(sys.prefix) / "kustomize"
"""Where it is put: in the virtual environment, so that it goes with that."""

_IN_CPU = ("network-policy",)

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

OVERLAYS = sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(
    path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml") if path.parent.name not in _IN_CPU
)
"""Those that the overlay ``cpu`` has not got."""
TOGETHER = "+".join(component for component in COMPONENTS if component != "keda")
"""All that one deployment can have at once: it has one autoscaler."""

_PACKAGE = "kustomize"
# The first release of Debian that has the package. The program runs with the C library of the one before, too.
_RELEASE = "trixie"
_LONGEST_S = 60
# An old program does not know all that these need.
_TRIAL = MANIFESTS / "overlays" / "cpu"


@dataclass(frozen=True)
class Kustomize:
    """One that works."""

    command: tuple[str, ...]

    def rendered(self, directory: Path) -> list[Manifest]:
        """What `kubectl apply -k` would send. Raises AssertionError with what is said of a directory that is wrong."""
        done = _run(self.command, directory)
        assert done.returncode == 0, done.stderr
        return documents(done.stdout)

    def rendered_by_name(self, name: str, scratch: Path) -> list[Manifest]:
        """Of an overlay, of a directory of k8s/, or of the overlay ``cpu`` with components: names parted by +."""
        places = [MANIFESTS / "overlays" / name, MANIFESTS / name]
        ready = [place for place in places if (place / "kustomization.yaml").exists()]
        return self.rendered(ready[0] if ready else _overlay(name.split("+"), scratch))


def found() -> Kustomize | str:
    """The fetched one, else those on the PATH; or why there is none."""
    for command in ((str(HOME / _PACKAGE), "build"), ("kustomize", "build"), ("kubectl", "kustomize")):
        if shutil.which(command[0]) and _run(command, _TRIAL).returncode == 0:
            return Kustomize(command)
    return "kustomize is not there, nor a kubectl of 1.27 or later: `make kustomize` fetches it"


def of_kind(kind: str, manifests: Sequence[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def fetch() -> list[str]:
    """Put it into ``HOME`` if none works yet; what could not be had, and why."""
    if isinstance(found(), Kustomize):
        return []
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        try:
            _unpack(Path(scratch))
            (Path(scratch) / "usr" / "bin" / _PACKAGE).replace(HOME / _PACKAGE)
        except FAILURES as error:
            return [f"kustomize could not be fetched: {type(error).__name__}"]
    return []


def _overlay(components: Sequence[str], scratch: Path) -> Path:
    """A directory of somebody's own, as k8s/README.md tells to make one."""
    # Without links, because the way from there is written with "..", and kustomize follows it as it stands.
    directory = scratch.resolve()
    above = os.path.relpath(MANIFESTS, directory)
    ours = {
        "resources": [f"{above}/overlays/cpu"],
        "components": [f"{above}/components/{component}" for component in components],
    }
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kind | ours))
    return directory


def _unpack(into: Path) -> None:
    try:
        unpack_from_release(_PACKAGE, _RELEASE, into)
    except FAILURES:
        shutil.rmtree(into)
        into.mkdir()
        unpack_packages([_PACKAGE], into)


def _run(command: tuple[str, ...], directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=_LONGEST_S)


if __name__ == "__main__":
    for problem in fetch():
        sys.stderr.write(f"kustomize: {problem}; the tests that use it will be skipped\n")
