"""A place of its own where images are built and run by buildah and podman, without an engine and without a trace.

Images, containers, networks and what is fetched for them lie below one folder. Nothing of the machine's own storage or
configuration is used or changed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NETWORK = "ortolan-image"
LONGEST_BUILD_S = 3600
_LONGEST_COMMAND_S = 120

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/running"
"""
# runc, because crun wants one kind of cgroups and some machines have both. No systemd: a machine that builds images may
# have none. The limits are those that every user may set.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{folder}/networks"
"""
# What pip needs on this machine to reach its index, as `pip config` names it, and where its files lie.
_CERTIFICATES_INSIDE = "/run/pip-authorities.crt"
_FOLDER = re.compile(r"(?:^|\s)(?:file://)?(/\S+)")
_BELONGS_TO_PIP = frozenset({"cert", "index-url", "extra-index-url", "find-links", "timeout"})


class Workshop:
    """Runs buildah, podman and podman-compose in ``folder``, which is on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("temporary", "networks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        (folder / "containers.conf").write_text(_CONTAINERS.format(folder=folder))
        self._environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "TMPDIR": str(folder / "temporary"),
            "BUILDAH_ISOLATION": "chroot",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        timeout_s: float = _LONGEST_COMMAND_S,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command, run to its end at the top of the tree. ``check``: any exit code but 0 is an AssertionError."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**self._environment, **(environment or {})},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def podman(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("podman", *arguments, check=check)

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """A command that goes on by itself."""
        return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL)

    def build(self, tag: str, context: Path, *arguments: str | Path) -> str:
        """Build an image with what pip needs here, none of which stays in it; what the build said."""
        done = self.run(
            *("buildah", "bud", "--format=docker", "--layers", f"--tag={tag}"),
            *_mounts_for_pip(self.folder),
            *arguments,
            context,
            timeout_s=LONGEST_BUILD_S,
        )
        return done.stdout + done.stderr

    def open(self) -> None:
        """Have a network for containers; podman's own would leave its bridge behind."""
        self.podman("network", "rm", "--force", NETWORK, check=False)
        self.podman("network", "create", NETWORK)

    def close(self) -> None:
        """Remove all containers and networks."""
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("network", "rm", "--force", NETWORK, check=False)

    def remove_images(self) -> None:
        self.run("buildah", "rm", "--all", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        # A file system of layers that is still mounted would be emptied through its mount.
        self.run("umount", "--recursive", self.folder / "images/overlay", check=False)


def _mounts_for_pip(folder: Path) -> Sequence[str]:
    """The arguments that let pip in a build reach what pip here reaches: its settings, folders and authorities."""
    settings = _pip_settings()
    mounts = [(Path(path), path) for path in sorted(set(_FOLDER.findall(" ".join(settings.values()))))]
    if authorities := settings.pop("cert", os.environ.get("SSL_CERT_FILE", "")):
        mounts = [(path, inside) for path, inside in mounts if inside != authorities]
        mounts.append((Path(authorities), _CERTIFICATES_INSIDE))
        settings["cert"] = _CERTIFICATES_INSIDE
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    existing = [
        f"--volume={_above_simple(path)}:{_above_simple(Path(inside))}:ro" for path, inside in mounts if path.exists()
    ]
    return [f"--volume={folder}/pip.conf:/etc/pip.conf:ro", *dict.fromkeys(existing)]


def _above_simple(path: Path) -> Path:
    """An index in a folder has its files beside its pages."""
    return path.parent if path.name == "simple" else path


def _pip_settings() -> dict[str, str]:
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in said.stdout.splitlines():
        name, _, value = line.partition("=")
        name = name.rpartition(".")[2]
        if name in _BELONGS_TO_PIP:
            # The environment's come first and count for more.
            found.setdefault(name, value.strip("'\""))
    return found
