"""What the allocator's thresholds, gc.freeze and the switch interval are worth: variants of one server side by side.

Run by `make interpreter-care` (`--parts`, `--rounds`, `--seconds`). All variants of a part run at once and are asked in
turns, in the opposite order each second round; figures are medians over rounds, with the ratio to the first variant.
CPU time and page faults per request are the server's, and steadier on a busy machine than rates and latencies.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import onnx_models
from onnx import TensorProto, helper
from reload_traffic import resident_mib
from server_process import ServerProcess, running

from ortolan.bench.figures import quantile
from ortolan.bench.load import Address, Form, Load, Outcome, PreparedRequest
from ortolan.bench.load_process import LoadProcess
from ortolan.bench.prepared_requests import prepared
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

RUNNER = Path(__file__).resolve().parent / "variant_server.py"
MIB = 1 << 20
ARENA_IDLE_S = 2
IDLE_S = 5.0


@dataclass(frozen=True)
class Variant:
    """``environment`` of the process, and ``interpreter`` as ``variant_server.py`` takes it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: Mapping[str, object] = field(default_factory=dict)


def glibc(**settings: int) -> Variant:
    return Variant({f"MALLOC_{name.upper()}_": str(value) for name, value in settings.items()})


ALLOCATOR = {
    "as it is": Variant(),
    "mmap 32 MiB, trim 16 MiB": glibc(mmap_threshold=32 * MIB, trim_threshold=16 * MIB),
    "mmap 32 MiB, trim 64 MiB": glibc(mmap_threshold=32 * MIB, trim_threshold=64 * MIB),
    "mmap 128 KiB": glibc(mmap_threshold=128 << 10),
    "two arenas": glibc(arena_max=2),
}
INTERPRETER = {
    "as it is": Variant(),
    "no freeze": Variant(interpreter={"freeze": False}),
    "no gc": Variant(interpreter={"gc": False}),
    "threshold 10,000": Variant(interpreter={"threshold": 10_000}),
    "switch 0.5 ms": Variant(interpreter={"switch_interval_s": 0.0005}),
    "switch 1 ms": Variant(interpreter={"switch_interval_s": 0.001}),
    "switch 20 ms": Variant(interpreter={"switch_interval_s": 0.02}),
}
LARGE = {"600 KB": (147, 1024), "6 MB": (1536, 1024)}


@dataclass(frozen=True)
class Case:
    """One load: ``rate`` of an open loop, as a share of what the closed loop of the same connections showed."""

    name: str
    model: str
    shape: tuple[int, ...]
    form: Form
    connections: int
    rate: float | None = None


@dataclass(frozen=True)
class Figures:
    rate: float
    cpu_us: float
    faults: float
    p50_us: float
    p99_us: float
    p999_us: float
    resident_mib: float


def large_cases() -> Iterator[Case]:
    for size, shape in LARGE.items():
        for model in ("takes", "both"):
            for form in (Form.BINARY, Form.GRPC):
                for connections in (1, 8):
                    name = f"{size} {'in' if model == 'takes' else 'in and out'}, {form.title} x{connections}"
                    yield Case(name, f"{model}-{shape[0]}", shape, form, connections)


def small_cases() -> Iterator[Case]:
    for form in (Form.BINARY, Form.GRPC):
        for connections in (1, 32):
            yield Case(f"tiny, {form.title} x{connections}", "tiny", (1, 16), form, connections)
        yield Case(f"tiny, {form.title} at half the rate", "tiny", (1, 16), form, 32, rate=0.5)


def save_models(repository: Path) -> None:
    for shape in LARGE.values():
        for name, kind, output in (("takes", "ReduceMax", ()), ("both", "Relu", shape)):
            node = helper.make_node(kind, ["x"], ["y"], **({"keepdims": 0} if kind == "ReduceMax" else {}))
            tensors = [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, output)]
            proto = onnx_models.model([node], *tensors)
            onnx_models.save_version(repository, f"{name}-{shape[0]}", proto, config="max_batch_size: 0\n")
    onnx_models.save_version(repository, "tiny", onnx_models.perceptron(16), config="max_batch_size: 64\n")


def request(case: Case, server: ServerProcess) -> tuple[Address, PreparedRequest]:
    address = Address("127.0.0.1", server.grpc_port if case.form is Form.GRPC else server.http_port)
    tensor = Tensor("x", FP32, case.shape, np.ones(case.shape, np.float32))
    return address, prepared(case.form, address, case.model, [tensor])


def page_faults(process: int) -> int:
    """Those that needed no disk."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[7])


def measured(generator: LoadProcess, case: Case, server: ServerProcess, seconds: float, rate: float | None) -> Figures:
    address, prepared_request = request(case, server)
    process = server.process.pid
    load = Load(
        address,
        (prepared_request,),
        case.connections,
        seconds,
        warm_up_s=0.2,
        rate=rate,
        watched=frozenset({process}),
    )
    before = page_faults(process)
    outcome = generator.outcome(load)
    faults = page_faults(process) - before
    if outcome.failed:
        raise SystemExit(f"{case.name}: {[*outcome.failed]}")
    return figures(outcome, faults, resident_mib(process))


def figures(outcome: Outcome, faults: int, resident: float) -> Figures:
    assert outcome.before is not None
    assert outcome.after is not None
    answered = max(outcome.answered, 1)
    times = sorted(outcome.latencies)
    # The warm-up's faults are counted too, and its requests are about as frequent as the others.
    all_answered = answered * (outcome.seconds + 0.2) / outcome.seconds
    return Figures(
        answered / outcome.seconds,
        (outcome.after.cpu_s - outcome.before.cpu_s) / answered * 1e6,
        faults / all_answered,
        *(quantile(times, share) * 1e6 for share in (0.5, 0.99, 0.999)),
        resident,
    )


def medians(found: Sequence[Figures]) -> Figures:
    return Figures(*(statistics.median(getattr(each, name) for each in found) for name in Figures.__annotations__))


def compare(
    variants: Mapping[str, Variant], cases: Sequence[Case], rounds: int, seconds: float
) -> dict[str, dict[str, Figures]]:
    """For each case the medians of each variant; printed as they come."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        repository = Path(folder) / "repository"
        save_models(repository)
        # The last to be closed, when the servers have ended and written what they have to tell.
        pauses = {name: Path(folder) / f"{number}.json" for number, name in enumerate(variants)}
        stack.callback(show_pauses, pauses)
        servers = {
            name: stack.enter_context(server(repository, variant, pauses[name])) for name, variant in variants.items()
        }
        generator = stack.enter_context(LoadProcess())
        found = {}
        for case in cases:
            found[case.name] = compared(generator, case, servers, rounds, seconds)
            show(case, found[case.name])
        time.sleep(IDLE_S)
        print(f"resident MiB after {IDLE_S:.0f} s without requests:", end=" ")
        print(", ".join(f"{name} {resident_mib(server.process.pid):.0f}" for name, server in servers.items()))
    return found


def server(repository: Path, variant: Variant, pauses: Path) -> AbstractContextManager[ServerProcess]:
    interpreter = json.dumps({**variant.interpreter, "pauses": str(pauses)})
    return running(
        repository,
        "--calibration-cache=none",
        f"--arena-idle-secs={ARENA_IDLE_S}",
        environment=variant.environment,
        under=(sys.executable, str(RUNNER), interpreter),
    )


def show_pauses(files: Mapping[str, Path]) -> None:
    print("collections of each generation while it served: how many, CPU ms of all, of the longest")
    for name, file in files.items():
        found = json.loads(file.read_text()) if file.exists() else {}
        print(
            f"  {name:26}",
            *(f"{len(each):6} {sum(each) * 1e3:7.1f} {max(each, default=0) * 1e3:6.2f}" for each in found.values()),
        )


def compared(
    generator: LoadProcess, case: Case, servers: Mapping[str, ServerProcess], rounds: int, seconds: float
) -> dict[str, Figures]:
    rate = None
    if case.rate is not None:
        rate = case.rate * measured(generator, case, next(iter(servers.values())), seconds, None).rate
    rows: dict[str, list[Figures]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in [*servers][:: -1 if number % 2 else 1]:
            rows[name].append(measured(generator, case, servers[name], seconds, rate))
    return {name: medians(each) for name, each in rows.items()}


def show(case: Case, found: Mapping[str, Figures]) -> None:
    first = next(iter(found.values()))
    print(f"\n{case.name}")
    for name, each in found.items():
        print(
            f"  {name:26} CPU {each.cpu_us:7.0f} us ({each.cpu_us / first.cpu_us:4.2f})  faults {each.faults:7.1f}  "
            f"{each.rate:6.0f}/s ({each.rate / first.rate:4.2f})  p50 {each.p50_us:6.0f}  p99 {each.p99_us:6.0f} "
            f"({each.p99_us / first.p99_us:4.2f})  p99.9 {each.p999_us:6.0f} ({each.p999_us / first.p999_us:4.2f})  "
            f"{each.resident_mib:4.0f} MiB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="allocator,interpreter")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--variants", default="", help="variants by name, separated by semicolons")
    chosen = parser.parse_args()
    parts = {"allocator": (ALLOCATOR, [*large_cases()]), "interpreter": (INTERPRETER, [*small_cases()])}
    for part in chosen.parts.split(","):
        variants, cases = parts[part]
        if chosen.variants:
            variants = {name: variants[name] for name in chosen.variants.split(";")}
        compare(variants, [case for case in cases if chosen.only in case.name], chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
