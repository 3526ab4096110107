"""What stands in the place of an ONNX model, told by names and first bytes."""

import gzip
import io
import zipfile
from pathlib import Path

import onnx_models
import pytest

from ortolan.repository.foreign_files import beginning_of, framework_of, kind_of


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return target.getvalue()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["model.pt"], "'model.pt' is a model of PyTorch, and this server runs ONNX models: export it to ONNX"),
        (["README.md", "model.savedmodel"], "'model.savedmodel' is a model of TensorFlow, "),
        (["model.PLAN"], "'model.PLAN' is a model of TensorRT, "),
        (["model.tflite"], "TensorFlow Lite"),
        (["digits.onnx", "model.bin", "README.md"], ""),
        ([], ""),
    ],
)
def test_models_of_other_frameworks_are_known_by_their_names(names: list[str], said: str) -> None:
    assert framework_of(names).startswith(said) if said.startswith("'") else said in framework_of(names)
    assert bool(framework_of(names)) is bool(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "a pointer of Git LFS .*git lfs pull",
        ),
        (b"\n\n<!DOCTYPE HTML>\n<html>", "an HTML page"),
        (b"<html><body>404</body></html>", "an HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b"", "^empty: "),
        (bytes(2000), "zeros"),
        (zipped("model.onnx"), "a zip archive: unpack it"),
        (zipped("archive/data.pkl", "archive/version"), "a model of PyTorch; .*export it to ONNX"),
        (gzip.compress(b"model", mtime=0), r"compressed \(gzip\): unpack it"),
    ],
)
def test_what_a_file_is_is_told_by_its_first_bytes(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert beginning_of(tmp_path / "model.onnx") == beginning_of(content)
    with pytest.raises(ValueError, match=said):
        raise ValueError(kind_of(beginning_of(content)))


@pytest.mark.parametrize("content", [onnx_models.doubler().SerializeToString()[:-40], b"\xff" * 200, b"hello\n"])
def test_nothing_is_told_of_what_is_not_known(content: bytes) -> None:
    assert kind_of(beginning_of(content)) == ""
