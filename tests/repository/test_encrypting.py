"""What ``ortolan encrypt`` takes: ONNX models, and nothing else by mistake."""

from pathlib import Path

import onnx_models
import pytest

from ortolan.errors import StartupError
from ortolan.repository.encrypting import encrypt_model

pytest.importorskip("cryptography")

MODEL = onnx_models.doubler().SerializeToString()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("5a" * 32)
    return path


@pytest.mark.parametrize("content", [MODEL, b"\0\0\0\0ORTM" + bytes(100)], ids=["onnx", "ort"])
def test_models_are_encrypted(tmp_path: Path, key: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    encrypt_model(tmp_path / "model.onnx", tmp_path / "out.onnx", key)
    assert (tmp_path / "out.onnx").stat().st_size > len(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"my shopping list\n", "is no ONNX model$"),
        (b"", "is no ONNX model, but empty"),
        (b"\x08\x07", "is no ONNX model$"),  # protobuf, without a graph
        (MODEL[:-40], "is no ONNX model$"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no ONNX model, but a pointer of Git LFS"),
    ],
)
def test_what_is_no_model_is_not_encrypted(tmp_path: Path, key: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(StartupError, match=said):
        encrypt_model(tmp_path / "x.txt", tmp_path / "out.onnx", key)
    assert not (tmp_path / "out.onnx").exists()
