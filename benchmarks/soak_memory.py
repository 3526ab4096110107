"""Minutes of a load of everything, and whether anything of it stays: resident memory and descriptors as it goes on.

Run by `make soak-memory` (`--rounds`, `--requests` of each). Exit code 1 when an answer was wrong, descriptors are
left, or memory after the last round is more than `--most` MiB above that after the second.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import large_tensors
import onnx_models
from mixed_load import MixedLoad
from reload_traffic import descriptors, resident_mib
from server_process import eventually, running


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--most", type=float, default=48.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository, log = Path(folder) / "models", Path(folder) / "log"
        large_tensors.save_models(repository, config="max_batch_size: 0\n")
        onnx_models.save_version(repository, "sizes", onnx_models.identity(), config="max_batch_size: 8192\n")
        with running(repository, "--calibration-cache=none", log=log) as server:
            pid, load = server.process.pid, MixedLoad(server)
            before, resident = descriptors(pid), [resident_mib(pid)]
            for number in range(chosen.rounds):
                load.run(chosen.requests)
                resident.append(resident_mib(pid))
                print(f"round {number + 1}: {resident[-1]:.0f} MiB, {descriptors(pid)} descriptors", flush=True)
            eventually(lambda: descriptors(pid) <= before)
        traced = "Traceback" in log.read_text()
    print(", ".join(f"{kind} {count}" for kind, count in sorted(load.counts.items())))
    print(*load.faults[:10], sep="\n")
    grown = resident[-1] - resident[min(2, chosen.rounds)]
    print(f"grown {grown:.0f} MiB since the second round, faults {len(load.faults)}, exceptions in the log {traced}")
    return 1 if load.faults or traced or grown > chosen.most else 0


if __name__ == "__main__":
    raise SystemExit(main())
