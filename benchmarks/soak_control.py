"""Eight clients that load, unload and ask four models at random for a minute, and the last command that decides.

Run by `make soak-control` (`--seconds` for another length). Exit code 1 when the server ends, answers what it should
not, or a model is not as the last command left it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import onnx_models
from control_soak import soak
from reload_traffic import descriptors, resident_mib
from server_process import running


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    models = [f"m{value}" for value in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        repository, log = Path(folder) / "repository", Path(folder) / "log"
        for value, name in enumerate(models):
            onnx_models.save_version(repository, name, onnx_models.adder(value))
        with running(repository, "--model-control-mode=explicit", "--load-model=*", log=log) as server:
            before = resident_mib(server.process.pid), descriptors(server.process.pid)
            result = soak(server, models, seconds)
            ended = server.process.poll() is not None
            after = before if ended else (resident_mib(server.process.pid), descriptors(server.process.pid))
        traced = "Traceback" in log.read_text()
    for (action, status), count in sorted(result.statuses.items()):
        print(f"{action} answered {status}: {count}")
    print(f"resident {before[0]:.0f} → {after[0]:.0f} MiB, descriptors {before[1]} → {after[1]}")
    for fault in result.faults[:10]:
        print(f"  {fault}")
    print(f"faults {len(result.faults)}, server ended {ended}, exceptions in the log {traced}")
    return 1 if result.faults or ended or traced else 0


if __name__ == "__main__":
    raise SystemExit(main())
