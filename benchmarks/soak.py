"""A soak: all doors, sizes, errors and clients that go, with loads, unloads and reloads beside them, for ten minutes.

Run by `make soak` (SOAK_SECONDS for another length). Reports what was lost, failed or answered wrong, and what stays:
the slope of resident memory after the warm-up, descriptors and threads. Exit code 1 when something was not answered
rightly, the log has an exception, descriptors or threads are left, or memory grows by more than `--most` MiB.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reload_traffic import descriptors
from server_process import running
from whole_soak import FLAGS, WholeSoak, save_models, whole_soak

# Pools of threads grow to their size when they are first busy.
MOST_THREADS_MORE = 16


def report(found: WholeSoak, descriptors_before: int) -> None:
    print(", ".join(f"{kind} {count}" for kind, count in sorted(found.load.counts.items())))
    control = ", ".join(f"{action} {status}: {n}" for (action, status), n in sorted(found.control.statuses.items()))
    print(f"{control}; reloads under load {dict(found.reloads)}")
    verdicts = ", ".join(f"{verdict} {found.load.verdicts[verdict]}" for verdict in ("lost", "failed", "wrong"))
    print(
        f"of {found.load.counts.total() + len(found.load.faults)} acts: {verdicts}; faults in all {len(found.faults)}"
    )
    first, last, left = found.settled[0], found.settled[-1], found.left
    print(
        f"resident {found.samples[0].resident_mib:.0f} MiB at first, {first.resident_mib:.0f} after the warm-up, "
        f"{last.resident_mib:.0f} at the end; slope {found.slope_mib_per_hour:+.1f} MiB/h, that is "
        f"{found.grown_mib:+.1f} MiB in {last.at_s - first.at_s:.0f} s"
    )
    print(
        f"descriptors {descriptors_before} before, {left.descriptors} after; threads {first.threads} → {left.threads}"
    )
    print(*found.faults[:10], sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--most", type=float, default=24.0, help="MiB that memory may grow by after the warm-up")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository, log = Path(folder) / "models", Path(folder) / "log"
        save_models(repository)
        with running(repository, *FLAGS, log=log) as server:
            before = descriptors(server.process.pid)
            found = whole_soak(server, chosen.seconds, max(0.25, min(5.0, chosen.seconds / 100)))
            ended = server.process.poll() is not None
        traced = "Traceback" in log.read_text()
    report(found, before)
    print(f"server ended {ended}, exceptions in the log {traced}")
    stays = found.left.descriptors > before or found.left.threads > found.settled[0].threads + MOST_THREADS_MORE
    return 1 if found.faults or ended or traced or stays or found.grown_mib > chosen.most else 0


if __name__ == "__main__":
    raise SystemExit(main())
