"""What a further process of `--processes` costs: its memory, and the time to start. Run by `make processes`.

Memory is what each process has for itself (smaps_rollup: private pages), once it has answered requests. Requests/s are
measured by `grid.py --variant "two=--processes=2"`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import large_models
import onnx_models
from callers import rest_body, row
from replicas_seen import one_to_each, replicas
from server_process import ServerProcess, running

ASKED = 20


def private_mib(pid: int) -> float:
    fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(size) for name, size, *_ in fields if name in ("Private_Clean:", "Private_Dirty:")) / 1024


def ask(server: ServerProcess, model: str) -> None:
    with one_to_each(server) as kept:
        for each in kept.values():
            for _ in range(ASKED):
                status, body = each.ask("POST", f"/v2/models/{model}/infer", rest_body(row(1)))
                assert status == 200, body


def measured(what: str, repository: Path, model: str, processes: int, cache: str) -> None:
    start = time.perf_counter()
    with running(repository, f"--processes={processes}", f"--compiled-cache-directory={cache}") as server:
        started_s = time.perf_counter() - start
        ask(server, model)
        each = " ".join(f"{private_mib(pid):6.1f}" for pid in replicas(server))
        print(f"{what:38} {started_s:6.1f} s   supervisor {private_mib(server.process.pid):5.1f}   replicas {each} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mebibytes", type=int, default=168, help="the size of the large model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        onnx_models.save_version(Path(folder) / "small", "small", onnx_models.doubler())
        onnx_models.save_version(Path(folder) / "large", "large", large_models.perceptron(given.mebibytes))
        for what, name, cache in (
            ("a small model", "small", "off"),
            ("a large one, as it is", "large", "off"),
            ("a large one, compiled at this start", "large", f"{folder}/cache"),
            ("a large one, compiled before", "large", f"{folder}/cache"),
        ):
            measured(what, Path(folder) / name, name, given.processes, cache)


if __name__ == "__main__":
    main()
