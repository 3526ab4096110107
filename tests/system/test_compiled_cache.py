"""Servers that share compiled models: what an operator sees of it, and clients do not."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from callers import Reply, ask, rest_body
from server_process import ServerProcess, eventually, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="models are kept compiled on Linux only")

# 9 MiB of weights.
WIDTH = 1100
LONG_S = 80
"""What is compiled beside tests that take all of the processor takes its time."""
ROW = np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, WIDTH)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    onnx_models.save_version(tmp_path / "models", "m", onnx_models.perceptron(WIDTH))
    return tmp_path / "models"


def options(tmp_path: Path, *more: str) -> tuple[str, ...]:
    return (
        str(tmp_path / "models"),
        f"--compiled-cache-directory={tmp_path / 'cache'}",
        f"--calibration-cache={tmp_path / 'calibration'}",
        *more,
    )


def answer(server: ServerProcess) -> list[float]:
    reply: Reply = ask(server, "POST", "/v2/models/m/infer", rest_body(ROW))
    assert reply.status == 200, reply.body
    return [float(number) for number in reply.array[0]]


def control(server: ServerProcess, what: str) -> int:
    return ask(server, "POST", f"/v2/repository/models/m/{what}", b"{}").status


def maps_the_cache(server: ServerProcess, tmp_path: Path) -> bool:
    return f"{tmp_path}/cache/" in Path(f"/proc/{server.process.pid}/maps").read_text()


def kept(tmp_path: Path) -> list[Path]:
    return [path.parent for path in (tmp_path / "cache").glob("v1/*/entry.json") if len(path.parent.name) == 40]


def test_the_second_start_maps_what_the_first_left(repository: Path, tmp_path: Path) -> None:
    log, from_cache = tmp_path / "log", " s from the compiled cache on CPU x"
    with running(*options(tmp_path), log=log) as first:
        expected = answer(first)
        assert not maps_the_cache(first, tmp_path)
        assert from_cache not in log.read_text()
        eventually(lambda: kept(tmp_path), LONG_S)
    with running(*options(tmp_path), log=log) as second, running(*options(tmp_path)) as third:
        assert from_cache in log.read_text()
        assert maps_the_cache(second, tmp_path)
        assert maps_the_cache(third, tmp_path)
        assert answer(second) == answer(third) == expected


def test_a_load_while_serving_is_compiled_beside_the_server(repository: Path, tmp_path: Path) -> None:
    with running(*options(tmp_path, "--model-control-mode=explicit")) as server:
        assert control(server, "load") == 200
        # On a machine that is busy enough the load did not wait for it.
        eventually(lambda: kept(tmp_path), LONG_S)
        expected = answer(server)
        for _ in range(2):
            assert control(server, "unload") == 200
            eventually(lambda: not maps_the_cache(server, tmp_path))
            assert control(server, "load") == 200
            assert maps_the_cache(server, tmp_path)
            assert answer(server) == expected
    assert len(kept(tmp_path)) == 1


def test_a_cache_that_is_removed_under_a_server_changes_nothing(repository: Path, tmp_path: Path) -> None:
    with running(*options(tmp_path, "--model-control-mode=explicit")) as server:
        assert control(server, "load") == 200
        expected = answer(server)
        for path in eventually(lambda: kept(tmp_path), LONG_S)[0].iterdir():
            path.unlink()
        assert answer(server) == expected
        assert control(server, "unload") == 200
        assert control(server, "load") == 200
        assert answer(server) == expected


def test_a_server_that_is_killed_while_it_compiles_leaves_nothing_in_the_way(repository: Path, tmp_path: Path) -> None:
    with running(*options(tmp_path)) as server:
        expected = answer(server)
        eventually(lambda: list((tmp_path / "cache").glob("v1/tmp-*")) or kept(tmp_path), LONG_S)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
    with running(*options(tmp_path)) as server:
        eventually(lambda: kept(tmp_path), LONG_S)
        assert answer(server) == expected
    eventually(lambda: not list((tmp_path / "cache").glob("v1/tmp-*")))


def test_a_directory_that_cannot_be_used_is_one_line_in_the_log(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    log = tmp_path / "log"
    with running(*options(tmp_path, "--model-control-mode=explicit"), log=log) as server:
        for _ in range(2):
            assert control(server, "load") == 200
            assert len(answer(server)) == WIDTH
    assert log.read_text().count("--compiled-cache-directory") == 1


def test_off_keeps_nothing(repository: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with running(
        *options(tmp_path, "--compiled-cache-directory=off", "--model-control-mode=explicit"),
        environment={"HOME": str(home), "XDG_CACHE_HOME": str(home)},
    ) as server:
        assert control(server, "load") == 200
        assert len(answer(server)) == WIDTH
    assert not list(home.iterdir())
