"""Profiles kept on disk, so that a model is measured once for each machine, runtime and way of running it."""

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ortolan.execution.calibration import INVARIANCES, UNSAFE, Profile
from ortolan.execution.cost_curve import as_plain, from_plain

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """Everything that a profile depends on."""

    model_sha256: str
    runtime: str
    providers: tuple[str, ...]
    intra_op_threads: int
    max_batch_size: int
    options: str = ""

    @property
    def file_name(self) -> str:
        parts = (_FORMAT, platform.machine(), _processor(), self)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:40] + ".json"


class CalibrationCache:
    """A directory of profiles. One that cannot be read or written is no cache, and no error."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(self, key: CalibrationKey) -> Profile | None:
        if self._directory is None:
            return None
        try:
            return _profile(json.loads((self._directory / key.file_name).read_text()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def keep(self, key: CalibrationKey, profile: Profile) -> None:
        """Write the profile at once or not at all."""
        if self._directory is None or not profile.points:
            return
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            _write(self._directory / key.file_name, json.dumps(_plain(profile)))


def _write(path: Path, text: str) -> None:
    """Raises OSError; then nothing is left behind."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _plain(profile: Profile) -> dict[str, object]:
    return {
        "points": as_plain(profile.points),
        "invariance": profile.invariance,
        "unsafe_because": profile.unsafe_because,
        "note": profile.note,
    }


def _profile(plain: Mapping[str, object]) -> Profile:
    points, invariance, unsafe_because = plain["points"], plain["invariance"], plain["unsafe_because"]
    if not isinstance(points, list):
        raise TypeError("points must be a list")
    if invariance not in INVARIANCES or (invariance == UNSAFE) != bool(unsafe_because):
        raise ValueError("a model is unsafe for a reason, and only then")
    return Profile(tuple(from_plain(points)), str(invariance), str(unsafe_because), str(plain["note"]))


def _processor() -> str:
    """What the processor calls itself; profiles of another one are worth nothing."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
