"""MLServer beside ours, as the Python peer: installed by itself, given the grid's models, started, and stopped.

    python benchmarks/mlserver_peer/run.py DIRECTORY                    serves until Ctrl-C, says the --peer argument
    python benchmarks/mlserver_peer/run.py DIRECTORY --grid --rounds=4  runs grid.py with it and what follows --grid

It has no binary form of HTTP; the grid leaves it out of that.
"""

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grid_models
import onnxruntime
from peer_process import UnavailableError, add_arguments, free_ports, peer_process, run

PACKAGES = ("mlserver==1.7.1", f"onnxruntime=={onnxruntime.__version__}")


def environment(folder: Path) -> Path:
    """The programs of a virtual environment with MLServer, made if it is not there. Raises UnavailableError."""
    programs = folder / "venv/bin"
    if not (programs / "mlserver").exists():
        venv.create(folder / "venv", with_pip=True)
        install = [programs / "python", "-m", "pip", "--disable-pip-version-check", "-q", "install", *PACKAGES]
        if subprocess.run(install, check=False).returncode:
            raise UnavailableError(f"{' and '.join(PACKAGES)} cannot be installed (above, what pip says)")
    return programs


def write(directory: Path, ports: Mapping[str, int], workers: int) -> None:
    """Put the models and MLServer's settings into ``directory``."""
    for name in grid_models.MODELS:
        file = grid_models.write(directory, name)
        session = onnxruntime.InferenceSession(file)
        settings = {
            "name": name,
            "implementation": "onnx_model.OnnxModel",
            "parameters": {"uri": str(file)},
            "inputs": [_described(each) for each in session.get_inputs()],
            "outputs": [_described(each) for each in session.get_outputs()],
        }
        (directory / name / "model-settings.json").write_text(json.dumps(settings))
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": workers, **ports}
    (directory / "settings.json").write_text(json.dumps(settings))


def _described(tensor: onnxruntime.NodeArg) -> Mapping[str, object]:
    datatype = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}[tensor.type]
    return {"name": tensor.name, "datatype": datatype, "shape": [-1, *tensor.shape[1:]]}


def serve(given: argparse.Namespace, stack: ExitStack) -> Mapping[str, str]:
    programs = environment(given.build.resolve())
    directory = given.directory.resolve()
    http_port, grpc_port, metrics_port = free_ports(3)
    write(directory, {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}, given.workers)
    command = [programs / "mlserver", "start", directory]
    stack.enter_context(peer_process(command, {"PYTHONPATH": str(Path(__file__).resolve().parent)}, http_port))
    return {"mlserver": f"127.0.0.1:{http_port},127.0.0.1:{grpc_port}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=0, help="processes that run models; none: the server's own does")
    parser.add_argument("--build", type=Path, default=Path("build/mlserver_peer"), help="where its environment is made")
    add_arguments(parser)
    given = parser.parse_args()
    return run("mlserver_peer", lambda stack: serve(given, stack), given.grid)


if __name__ == "__main__":
    raise SystemExit(main())
