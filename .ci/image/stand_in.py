"""A base image for machines that reach no registry: Debian's Python under the name that the Dockerfile begins from.

It is made of the distribution's packages by mmdebstrap and says where Python's official image has it: /usr/local/bin.
Debian 12 has Python 3.11, so that the versions are the same; only the smaller half of the official image is in it.
"""

from workshop import Workshop

_DEBIAN = "bookworm"
_PACKAGES = "ca-certificates,libexpat1,python3,python3-pip,python3-venv"
_DOCKERFILE = """\
FROM scratch
ADD root.tar /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin
RUN ln -s /usr/bin/python3 /usr/local/bin/python
"""
BASE = "docker.io/library/python:3.11-slim"


def ensure_base(workshop: Workshop) -> str:
    """Have ``BASE``, from its registry if that can be reached; where it is from, in words."""
    if workshop.podman("image", "exists", BASE, check=False).returncode == 0:
        return "kept from the last time"
    if workshop.run("buildah", "pull", BASE, check=False).returncode == 0:
        return "the official one"
    context = workshop.folder / "stand-in"
    context.mkdir(exist_ok=True)
    root = context / "root.tar"
    workshop.run("mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", _DEBIAN, root, timeout_s=900)
    (context / "Dockerfile").write_text(_DOCKERFILE)
    workshop.build(BASE, context)
    root.unlink()
    return f"made of Debian's packages ({_DEBIAN}), as no registry was reached"
