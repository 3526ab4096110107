"""What testing the image needs of the machine: ``python needed_programs.py`` installs what is missing, and says so.

Only with apt-get, and only as root; otherwise it names what is missing and fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Command: Debian's package of it.
_COMMANDS = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "conmon": "conmon",
    "iptables": "iptables",
}


def missing() -> list[str]:
    """The packages whose commands are not here."""
    found = [package for command, package in _COMMANDS.items() if shutil.which(command, path=_path()) is None]
    # podman's networks: one of two.
    if not any(Path(place).exists() for place in ("/usr/lib/cni/bridge", "/usr/lib/podman/netavark")):
        found.append("containernetworking-plugins")
    return found


def main() -> int:
    """The exit code: 0 when all is here."""
    if os.geteuid() != 0:
        print(
            "Building and running containers as `make image-test` does it needs root: sudo make image-test",
            file=sys.stderr,
        )
        return 1
    packages = missing()
    if not packages:
        return 0
    if shutil.which("apt-get") is None:
        print(f"Missing, and there is no apt-get to install it: {', '.join(packages)}", file=sys.stderr)
        return 1
    print(f"Installing with apt-get: {', '.join(packages)}")
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], check=True, stdout=subprocess.DEVNULL)
    return 0


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


if __name__ == "__main__":
    sys.exit(main())
