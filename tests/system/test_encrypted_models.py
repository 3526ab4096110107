"""Encrypted models: served from memory, with keys from files and from the environment, and shown to nobody."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from callers import ask, rest_body
from onnx import TensorProto, helper
from server_process import ServerProcess, finished, running

KEY, OLD = bytes(range(32)).hex(), bytes(range(32, 64)).hex()
MARK = b"a secret weight "
WIDTH = 1 << 21
"""Numbers in the model's weights: 8 MB, which is too much for a model that is loaded from memory unless it must be."""


def save(root: Path, tmp_path: Path, key: str = KEY, name: str = "m") -> Path:
    """An encrypted model y = w[x], whose weights have MARK in them; its file."""
    weights = (MARK * (WIDTH * 4 // len(MARK)))[: WIDTH * 4]
    proto = onnx_models.model(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        [("x", TensorProto.INT64, ["batch", 4])],
        [("y", TensorProto.INT32, ["batch", 4])],
        {"w": np.frombuffer(weights, np.int32)},
    )
    plain, key_file = tmp_path / f"{name}.plain", tmp_path / f"{name}.key"
    plain.write_bytes(proto.SerializeToString())
    key_file.write_text(f"{key}\n")
    encrypted = root / name / "1" / "model.onnx"
    encrypted.parent.mkdir(parents=True)
    ended = finished("encrypt", plain, encrypted, f"--key-file={key_file}")
    assert ended.returncode == 0, ended.stderr
    plain.unlink()
    return encrypted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    return tmp_path / "repository"


def looked_up(server: ServerProcess, model: str = "m") -> bytes:
    reply = ask(server, "POST", f"/v2/models/{model}/infer", rest_body(np.array([[0, 1, 2, 3]], np.int64)))
    assert reply.status == 200, reply.body
    return reply.array.astype(np.int32).tobytes()


def holding(directory: Path, mark: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and mark in path.read_bytes()]


def test_an_encrypted_model_is_served_and_nothing_of_it_is_written(root: Path, tmp_path: Path) -> None:
    assert MARK not in save(root, tmp_path).read_bytes()
    environment = {"TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    (tmp_path / "tmp").mkdir()
    log = tmp_path / "log"
    key = f"--model-key-file={tmp_path / 'm.key'}"
    with running(root, key, "--log-verbose=2", environment=environment, log=log) as server:
        assert looked_up(server) == MARK
        assert holding(tmp_path, MARK) == []
        told = [server.summary.encode(), log.read_bytes(), _command_line(server)]
        told += [ask(server, "GET", path).body for path in ("/v2", "/v2/models/m", "/v2/models/m/config")]
    assert all(KEY.encode() not in each for each in told)
    assert holding(tmp_path, MARK) == []


def _command_line(server: ServerProcess) -> bytes:
    path = Path(f"/proc/{server.process.pid}/cmdline")
    return path.read_bytes() if sys.platform == "linux" else b""


def test_keys_come_from_the_environment_too_and_several_may_be_in_use(root: Path, tmp_path: Path) -> None:
    save(root, tmp_path, OLD, "old")
    save(root, tmp_path, KEY, "new")
    with running(root, environment={"ORTOLAN_MODEL_KEY": f"{KEY},{OLD}"}) as server:
        assert looked_up(server, "old") == looked_up(server, "new") == MARK


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "which the server does not have: it has none"),
        (OLD, "which the server does not have: it has"),
        ("not a key", "ORTOLAN_MODEL_KEY cannot be used: line 1 is no key"),
    ],
)
def test_without_the_right_key_it_is_told_which_and_nothing_of_a_key(
    root: Path, tmp_path: Path, key: str, said: str
) -> None:
    save(root, tmp_path)
    ended = finished("config", root, environment={"ORTOLAN_MODEL_KEY": key})
    assert ended.returncode != 0
    assert said in ended.stderr
    for secret in (KEY, OLD, "not a key"):
        assert secret not in ended.stdout + ended.stderr


def test_a_damaged_file_takes_no_place(root: Path, tmp_path: Path) -> None:
    file = save(root, tmp_path)
    with running(root, f"--model-key-file={tmp_path / 'm.key'}", "--model-control-mode=explicit", "--load-model=m") as (
        server
    ):
        os.truncate(file, file.stat().st_size - 1000)
        refused = ask(server, "POST", "/v2/repository/models/m/load", {})
        assert refused.status == 400
        assert "is encrypted, but damaged, truncated or altered" in refused.json["error"]
        assert looked_up(server) == MARK


def test_weights_in_other_files_would_not_be_encrypted(tmp_path: Path) -> None:
    proto = onnx_models.adder(1)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "key").write_text(KEY)
    ended = finished("encrypt", tmp_path / "model.onnx", tmp_path / "out", f"--key-file={tmp_path / 'key'}")
    assert (ended.returncode, "has weights in other files" in ended.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_encrypting_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_models.adder(1).SerializeToString())
    (tmp_path / "out").write_bytes(b"precious")
    (tmp_path / "key").write_text(KEY)
    for model in ("model.onnx", "none.onnx"):
        ended = finished("encrypt", tmp_path / model, tmp_path / "out", f"--key-file={tmp_path / 'key'}")
        assert ended.returncode == 2
    assert (tmp_path / "out").read_bytes() == b"precious"
