"""What happens to a repository's files under a server that has loaded them changes nothing in its answers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
import tritonclient.grpc
import tritonclient.http
from callers import ask, rest_body, row
from onnx import TensorProto, helper
from server_process import ServerProcess, command, eventually, running
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs links and signals")

MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
WIDTH = 1 << 18
"""Numbers in the external data: a megabyte, so that a mapping of it has pages that were never touched."""


def gather(location: str = "w.bin", width: int = WIDTH) -> onnx.ModelProto:
    """y = w[x] for the ``width`` numbers w in the file ``location``: each request looks into the mapped file anew."""
    proto = onnx_models.model(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        [("x", TensorProto.INT64, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
    )
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[width], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    proto.graph.initializer.append(weights)
    return proto


def save(root: Path, name: str = "m", location: str = "w.bin", offset: float = 0, version: int = 1) -> Path:
    """A ``gather`` whose numbers are their own indices plus ``offset``; its file of weights."""
    onnx_models.save_version(root, name, gather(location), version)
    weights = root / name / str(version) / "w.bin"
    weights.write_bytes((np.arange(WIDTH, dtype=np.float32) + offset).tobytes())
    return weights


def looked_up(server: ServerProcess, *indices: int, model: str = "m") -> list[float]:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(np.array([indices], np.int64)))
    assert reply.status == 200, reply.body
    return [float(number) for number in reply.array[0]]


def files_below(directory: Path) -> list[str]:
    # Unlike pathlib's, this walk takes directories that go meanwhile for empty ones.
    return sorted(name for _, _, names in os.walk(directory) for name in names)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    return tmp_path / "repository"


def truncate(weights: Path) -> None:
    os.truncate(weights, 0)


def overwrite(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))


def test_a_server_survives_what_is_done_to_its_files_and_answers_as_before(root: Path, copies: Path) -> None:
    """Truncating a mapped file would end the process with SIGBUS, overwriting it would change the answers."""
    truncated, overwritten, removed = save(root, "truncated"), save(root, "overwritten"), save(root, "removed")
    with running(root, f"--model-copy-directory={copies}") as server:
        truncate(truncated)
        truncate(truncated.with_name("model.onnx"))
        overwrite(overwritten)
        overwrite(overwritten.with_name("model.onnx"))
        removed.unlink()
        for model in ("truncated", "overwritten", "removed"):
            for start in range(0, WIDTH - 4, WIDTH // 64):
                indices = (start, start + 1, start + 2, start + 3)
                assert looked_up(server, *indices, model=model) == list(indices)
        assert server.process.poll() is None
    assert files_below(copies) == []


def test_copies_go_with_their_version(root: Path, copies: Path) -> None:
    weights = save(root)
    with running(root, "--model-control-mode=explicit", "--load-model=m", f"--model-copy-directory={copies}") as server:
        assert files_below(copies) == ["model.onnx", "w.bin"]
        for offset in (1, 2, 3):
            weights.write_bytes((np.arange(WIDTH, dtype=np.float32) + offset).tobytes())
            assert ask(server, "POST", "/v2/repository/models/m/load", {}).status == 200
            assert looked_up(server, 0, 1, 2, 3) == [offset, offset + 1, offset + 2, offset + 3]
        eventually(lambda: files_below(copies) == ["model.onnx", "w.bin"])
        assert ask(server, "POST", "/v2/repository/models/m/unload", {}).status == 200
        eventually(lambda: files_below(copies) == [])


def test_what_a_killed_server_leaves_is_gone_after_the_next_start(root: Path, copies: Path) -> None:
    weights = save(root)
    os.truncate(weights, 256 << 20)
    arguments = (
        "serve",
        root,
        "--http-port=0",
        "--grpc-port=0",
        "--metrics-port=0",
        f"--model-copy-directory={copies}",
    )
    first = os.posix_spawn(sys.executable, command(*arguments), os.environ)
    try:
        eventually(lambda: "w.bin" in files_below(copies))
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    assert files_below(copies) == ["model.onnx", "w.bin"]
    os.truncate(weights, WIDTH * 4)
    with running(root, f"--model-copy-directory={copies}") as server:
        assert looked_up(server, 0, 1, 2, 3) == [0, 1, 2, 3]
        assert files_below(copies) == ["model.onnx", "w.bin"]
    assert list(copies.iterdir()) == []


# -- hostile models ----------------------------------------------------------------------------------------------------

HOSTILE = {
    "upwards": "'../../../secret', which is not inside its directory",
    "absolute": "which is not inside its directory",
    "linked": "external data 'w.bin' is a symbolic link that leads out of the model's directory",
    "linked_folder": "external data 'd/secret' is a symbolic link that leads out of the model's directory",
    "hard_linked": "external data 'w.bin' has further names (hard links)",
    "piped": "external data 'w.bin' cannot be read: not a regular file",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    base = tmp_path_factory.mktemp("hostile")
    root, secret = base / "repository", base / "secret"
    secret.write_bytes(np.arange(WIDTH, dtype=np.float32).tobytes())
    save(root, "good")
    save(root, "upwards", "../../../secret")
    save(root, "absolute", str(secret))
    save(root, "linked").unlink()
    (root / "linked" / "1" / "w.bin").symlink_to(secret)
    save(root, "linked_folder", "d/secret")
    (root / "linked_folder" / "1" / "d").symlink_to(base)
    save(root, "hard_linked").unlink()
    (root / "hard_linked" / "1" / "w.bin").hardlink_to(secret)
    save(root, "piped").unlink()
    os.mkfifo(root / "piped" / "1" / "w.bin")
    arguments = ("--model-control-mode=explicit", "--external-data-hard-links=refuse", "--load-model=good")
    with running(root, *arguments) as started:
        yield started


@pytest.mark.parametrize("protocol", MODULES)
@pytest.mark.parametrize("model", HOSTILE)
def test_a_model_reaches_no_file_but_its_own(hostile: ServerProcess, protocol: str, model: str) -> None:
    client: Any = MODULES[protocol].InferenceServerClient(hostile.http if protocol == "http" else hostile.grpc)
    with client:
        with pytest.raises(InferenceServerException) as refusal:
            client.load_model(model)
        assert HOSTILE[model] in refusal.value.message()
        assert "/repository/" not in refusal.value.message()
        assert not client.is_model_ready(model)
    assert looked_up(hostile, 0, 1, 2, 3, model="good") == [0, 1, 2, 3]


# -- where copies cannot be made ---------------------------------------------------------------------------------------


SMALL_DISK = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
"""A shell's command line with the directory of a file system of 4 MiB, and what is to see it."""


def may_mount(directory: Path) -> bool:
    try:
        tried = subprocess.run(["unshare", "-rm", "sh", "-c", SMALL_DISK, str(directory), "true"], capture_output=True)
    except OSError:
        return False
    return tried.returncode == 0


def test_a_full_disk_fails_the_load_and_the_old_version_serves_on(root: Path, copies: Path) -> None:
    if not may_mount(copies):
        pytest.skip("no user may mount a file system here")
    weights = save(root)
    arguments = ("--model-control-mode=explicit", "--load-model=m", f"--model-copy-directory={copies}")
    with running(root, *arguments, under=("unshare", "-rm", "sh", "-c", SMALL_DISK, str(copies))) as server:
        os.truncate(weights, 32 << 20)
        for _ in range(5):
            reply = ask(server, "POST", "/v2/repository/models/m/load", {})
            assert reply.status == 400
            assert "own copy of the model: No space left on device. --model-copy-directory" in reply.json["error"]
            assert str(copies) not in reply.json["error"]
            assert looked_up(server, 0, 1, 2, 3) == [0, 1, 2, 3]
        save(root, offset=1)
        assert ask(server, "POST", "/v2/repository/models/m/load", {}).status == 200
        assert looked_up(server, 0, 1, 2, 3) == [1, 2, 3, 4]


def test_a_copy_that_fails_half_way_fails_the_load_and_the_old_version_serves_on(root: Path, copies: Path) -> None:
    weights = save(root)
    arguments = ("--model-control-mode=explicit", "--load-model=m", f"--model-copy-directory={copies}")
    # Files may have 8 MiB: 16,384 blocks of 512 bytes.
    with running(root, *arguments, under=("sh", "-c", 'ulimit -f 16384; exec "$@"', "sh")) as server:
        os.truncate(weights, 32 << 20)
        reply = ask(server, "POST", "/v2/repository/models/m/load", {})
        assert reply.status == 400
        assert "own copy of the model: File too large." in reply.json["error"]
        assert looked_up(server, 0, 1, 2, 3) == [0, 1, 2, 3]
        assert files_below(copies) == ["model.onnx", "w.bin"]


# -- repositories of their own kind ------------------------------------------------------------------------------------


def test_a_repository_that_may_not_be_written_is_served_and_not_touched(root: Path, copies: Path) -> None:
    save(root)
    onnx_models.save_version(root, "small", onnx_models.adder(1))
    before = {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with running(root, f"--model-copy-directory={copies}") as server:
            assert looked_up(server, 0, 1, 2, 3) == [0, 1, 2, 3]
            assert ask(server, "POST", "/v2/models/small/infer", rest_body(row(1))).status == 200
        assert {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))} == before
    finally:
        for path in before:
            path.chmod(0o755)


def test_a_mount_that_appears_after_the_start_is_followed(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "volume")
    save(root, "first")
    with running(root, "--model-control-mode=poll", "--repository-poll-secs=0.1") as server:
        (root / "m").symlink_to(tmp_path / "volume" / "m")
        eventually(lambda: ask(server, "GET", "/v2/models/m/ready").status == 200)
        assert looked_up(server, 0, 1, 2, 3) == [0, 1, 2, 3]
        assert looked_up(server, 0, 1, 2, 3, model="first") == [0, 1, 2, 3]
