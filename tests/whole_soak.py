"""Everything that clients do, at once and for a while: what of it was not answered rightly, and what of it stays."""

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import large_tensors
import numpy as np
import onnx_models
from callers import ask
from control_soak import Soak, soak
from mixed_load import MixedLoad
from reload_traffic import descriptors, resident_mib
from server_process import ServerProcess, eventually

FLAGS = ("--model-control-mode=explicit", "--load-model=*", "--calibration-cache=none")
_CONTROLLED = ("m0", "m1", "m2")
_RELOAD_EVERY_S = 1.0
# What fills up at first: arenas, pools of threads, caches of forms.
_WARM_UP = 0.4


@dataclass(frozen=True)
class Sample:
    """The server ``at_s`` after the begin."""

    at_s: float
    resident_mib: float
    descriptors: int
    threads: int


@dataclass
class WholeSoak:
    """What came of it."""

    load: MixedLoad
    control: Soak = field(default_factory=Soak)
    reloads: Counter[int] = field(default_factory=Counter)
    """Reloads of a model that is being asked, by status."""
    samples: list[Sample] = field(default_factory=list)
    left: Sample = Sample(0, 0, 0, 0)
    """After all clients have gone."""

    @property
    def faults(self) -> list[str]:
        reloads = [f"reload: {status}" for status in self.reloads.elements() if status != 200]
        return [*self.load.faults, *self.control.faults, *reloads]

    @property
    def settled(self) -> Sequence[Sample]:
        """Those after the warm-up."""
        return [each for each in self.samples if each.at_s >= _WARM_UP * self.samples[-1].at_s]

    @property
    def slope_mib_per_hour(self) -> float:
        """By least squares over what was resident after the warm-up."""
        times = [each.at_s / 3600 for each in self.settled]
        return float(np.polyfit(times, [each.resident_mib for each in self.settled], 1)[0])

    @property
    def grown_mib(self) -> float:
        """How far that line rises over the time after the warm-up."""
        return self.slope_mib_per_hour * (self.settled[-1].at_s - self.settled[0].at_s) / 3600


def save_models(repository: Path) -> None:
    large_tensors.save_models(repository, config="max_batch_size: 0\n")
    onnx_models.save_version(repository, "sizes", onnx_models.identity(), config="max_batch_size: 8192\n")
    for number, name in enumerate(_CONTROLLED):
        onnx_models.save_version(repository, name, onnx_models.adder(number))


def whole_soak(server: ServerProcess, seconds: float, sample_every_s: float = 1.0) -> WholeSoak:
    """Ask in all ways, load and unload, and reload what is asked, for so long; the models are those of this module."""
    result = WholeSoak(MixedLoad(server))
    begun = time.monotonic()
    threads = [
        threading.Thread(target=result.load.run_for, args=(seconds,)),
        threading.Thread(target=_control, args=(server, seconds, result)),
        threading.Thread(target=_reload, args=(server, seconds, result.reloads)),
    ]
    before = descriptors(server.process.pid)
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        result.samples.append(_sample(server, time.monotonic() - begun))
        threads[0].join(sample_every_s)
        if not threads[0].is_alive():
            for each in threads:
                each.join()
    eventually(lambda: descriptors(server.process.pid) <= before)
    result.left = _sample(server, time.monotonic() - begun)
    return result


def _control(server: ServerProcess, seconds: float, result: WholeSoak) -> None:
    try:
        result.control = soak(server, _CONTROLLED, seconds, clients=1)
    except Exception as error:
        result.control.faults.append(f"control: {error!r}")


def _reload(server: ServerProcess, seconds: float, statuses: Counter[int]) -> None:
    end = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < end:
        try:
            statuses[
                ask(server, "POST", "/v2/repository/models/sizes/load", {"parameters": {"force": True}}).status
            ] += 1
        except OSError:
            statuses[0] += 1
        pause.wait(_RELOAD_EVERY_S)


def _sample(server: ServerProcess, at_s: float) -> Sample:
    pid = server.process.pid
    found = re.search(r"Threads:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return Sample(at_s, resident_mib(pid), descriptors(pid), int(found[1]) if found else 0)
