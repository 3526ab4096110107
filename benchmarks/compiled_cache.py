"""What the compiled cache saves: loading by model size, memory of further copies, starts of a server; and its price.

Run by `make compiled-cache`. Each size is loaded as it is and compiled in turn, so that a busy machine troubles both
alike; memory is that of processes of their own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx_models
from server_process import eventually, running

from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_key import CompiledKey, options_of, this_processor
from ortolan.execution.compiled_process import compile_apart
from ortolan.execution.compiled_session import open_compiled
from ortolan.execution.compiled_store import CompiledStore, Held
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_mending import open_session
from ortolan.execution.session import RUNTIME_BUILD, Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository import config_completion
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.model_config import InstanceKind

SIZES_MIB = (1, 4, 16, 168)
LIMIT_BYTES = 8 << 30
PLACE = Placement("benchmark", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
SETTINGS = SessionSettings()


def width_of(mebibytes: int) -> int:
    """That of a perceptron with so large weights: two square matrices of FP32."""
    return int((mebibytes * 2**20 / 8) ** 0.5)


class Case:
    """One model, as it is and compiled."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.width = width_of(mebibytes)
        self.model = onnx_models.save(onnx_models.perceptron(self.width), folder / str(mebibytes) / "model.onnx")
        self.store = CompiledStore(folder / "cache", LIMIT_BYTES)
        self.key = CompiledKey(str(mebibytes), RUNTIME_BUILD, this_processor(), (CPU_PROVIDER,), options_of(SETTINGS))

    def compile(self) -> float:
        """Seconds until it is in the cache."""
        start = time.perf_counter()
        defaults = CompletionDefaults()
        config = config_completion.complete_instance_groups(config_completion.default_config("model"), defaults)
        with self.store.workplace(self.model.stat().st_size) as place:
            job = CompileJob(self.model, place.folder, self.key.text, config, self.model.parent, SETTINGS, defaults)
            compile_apart(job, os.environ, 600)
            self.store.admit(place, self.key)
        return time.perf_counter() - start

    def as_it_is(self) -> Session:
        return open_session(self.model, "model", SETTINGS, PLACE, self.model.parent)[0]

    def compiled(self) -> Session:
        held = self.store.find(self.key)
        assert isinstance(held, Held), held
        session = open_compiled(held.model, "model", SETTINGS, PLACE)
        held.release()
        return session

    def run(self, session: Session) -> None:
        session.run({"x": np.ones((1, self.width), np.float32)}, ["y"])


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def loads(case: Case, rounds: int) -> str:
    pairs = [(seconds(case.as_it_is), seconds(case.compiled)) for _ in range(rounds)]
    plain, mapped = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"{plain * 1e3:8.1f} ms as it is {mapped * 1e3:8.1f} ms compiled   ratio {plain / mapped:.1f}"


def proportional_mib() -> float:
    """This process' share of memory: what it shares with others is divided among them."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def tell_memory(case: Case, compiled: bool) -> None:
    """Print what a first and a second session of this process add to its memory."""
    sessions, before = [], proportional_mib()
    for _ in range(2):
        sessions.append(case.compiled() if compiled else case.as_it_is())
        case.run(sessions[-1])
        print(f"{proportional_mib() - before:.0f}", end=" MiB ")
        before = proportional_mib()


def is_kept(cache: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(("new-", "tmp-", "locks")) for path in cache.glob("v1/*"))


def start(folder: Path, cache: str) -> float:
    """Seconds from the start of a server with one model until it is ready."""
    flags = (f"--compiled-cache-directory={cache}", f"--calibration-cache={folder / 'calibration'}")
    begin = time.perf_counter()
    with running(folder / "repository", *flags):
        ready = time.perf_counter() - begin
        if cache != "off":
            eventually(lambda: is_kept(Path(cache)), 120)
    return ready


def memory_of(folder: Path, mebibytes: int, kind: str) -> str:
    command = [sys.executable, __file__, "--memory", kind, "--size", str(mebibytes), "--folder", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=("plain", "compiled"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        tell_memory(Case(arguments.folder, arguments.size), arguments.memory == "compiled")
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        print("A session, median:")
        for mebibytes in SIZES_MIB:
            case = Case(folder, mebibytes)
            made = case.compile()
            print(f"  {mebibytes:4d} MiB {loads(case, arguments.rounds)}   made once in {made:.2f} s")
        largest = SIZES_MIB[-1]
        print(f"Memory that the first and the second session of {largest} MiB add to a process:")
        for kind in ("plain", "compiled"):
            print(f"  {kind:9s}{memory_of(folder, largest, kind)}")
        print(f"A server with a model of {largest} MiB, from its start until it is ready, median:")
        onnx_models.save_version(folder / "repository", "m", onnx_models.perceptron(width_of(largest)))
        start(folder, "off")  # which measures the model, once
        cache = str(folder / "new")
        print(f"  empty cache {start(folder, cache):.2f} s")
        pairs = [(start(folder, "off"), start(folder, cache)) for _ in range(arguments.rounds)]
        off, full = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"  no cache {off:.2f} s   full cache {full:.2f} s")


if __name__ == "__main__":
    main()
