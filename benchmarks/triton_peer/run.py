"""NVIDIA's Triton server beside ours: fetched, given a backend and the grid's models, started, and stopped at the end.

python benchmarks/triton_peer/run.py DIRECTORY                     serves until Ctrl-C, and says the --peer argument
python benchmarks/triton_peer/run.py DIRECTORY --grid --rounds=4   runs grid.py with it, and the arguments that follow
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from installation import BACKEND, Installation, installed
from model_repository import VARIANTS, write
from peer_process import add_arguments, free_ports, peer_process, run

USUAL = "tuned"


def serve(given: argparse.Namespace, stack: ExitStack) -> Mapping[str, str]:
    """Start a server for each variant; the addresses of each by its name."""
    installation = installed(given.build.resolve())
    flags = [f"--http-thread-count={given.http_thread_count}", *given.flag]
    return {
        "triton" if variant == USUAL else f"triton-{variant}": started(
            stack, installation, write(given.directory.resolve(), variant, BACKEND), flags
        )
        for variant in given.variant or [USUAL]
    }


def started(stack: ExitStack, installation: Installation, repository: Path, flags: Sequence[str]) -> str:
    http_port, grpc_port, metrics_port = free_ports(3)
    command = [
        installation.program,
        f"--model-repository={repository}",
        f"--backend-directory={installation.backends}",
        "--disable-auto-complete-config",
        "--log-verbose=0",
        "--exit-timeout-secs=5",
        *(f"--{each}-address=127.0.0.1" for each in ("http", "grpc", "metrics")),
        f"--http-port={http_port}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
        *flags,
    ]
    stack.enter_context(peer_process(command, {"LD_LIBRARY_PATH": str(installation.libraries)}, http_port))
    return f"127.0.0.1:{http_port},127.0.0.1:{grpc_port}"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--variant", action="append", choices=VARIANTS, help=f"how the models are configured; {USUAL} without")
    add("--http-thread-count", type=int, default=8, help="Triton's own default")
    add("--flag", action="append", default=[], metavar="=--NAME=VALUE", help="another one for tritonserver")
    add(
        "--build",
        type=Path,
        default=Path("build/triton_peer"),
        help="where the server is unpacked and the backend built",
    )
    add_arguments(found)
    return found


def main() -> int:
    given = parser().parse_args()
    return run("triton_peer", lambda stack: serve(given, stack), given.grid)


if __name__ == "__main__":
    raise SystemExit(main())
