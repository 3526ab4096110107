"""An image that was built, and what it weighs."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from workshop import Workshop

TAG = "localhost/ortolan:dev"
GPU_TAG = "localhost/ortolan:dev-gpu"
LAYERS = ("Python and libraries", "packages", "Ortolan")

Say = Callable[[str], None]
"""Keeps a line for the summary, which is shown although all tests pass."""


@dataclass(frozen=True)
class Image:
    """``layers`` are sizes in bytes, in the order of the Dockerfile."""

    tag: str
    size_bytes: int
    layers: tuple[int, ...]

    def __str__(self) -> str:
        parts = (f"{name} {size / 1e6:.1f} MB" for name, size in zip(LAYERS, self.layers, strict=True))
        return f"{self.size_bytes / 1e6:.0f} MB: {', '.join(parts)}"


Builder = Callable[..., Image]
"""Builds the Dockerfile under a name, with further arguments for the build."""


def image_of(workshop: Workshop, tag: str) -> Image:
    """The image of that name."""
    size = json.loads(workshop.podman("image", "inspect", tag).stdout)[0]["Size"]
    history = json.loads(workshop.podman("history", "--format=json", "--no-trunc", tag).stdout)
    # The newest is first; instructions that change no file make no layer.
    return Image(tag, size, tuple(entry["size"] for entry in reversed(history) if entry["size"]))
