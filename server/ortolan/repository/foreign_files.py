"""Files that stand where an ONNX model is expected and are none: what they are, and what to do about it."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

# By the ends of the names that other frameworks give to their models.
_FRAMEWORKS = {
    "PyTorch": (".pt", ".pth", ".pt2", ".ckpt", ".safetensors", "pytorch_model.bin"),
    "TensorFlow": (".savedmodel", ".graphdef", ".pb", ".h5", ".keras", "saved_model"),
    "TensorFlow Lite": (".tflite",),
    "TensorRT": (".plan", ".engine", ".trt"),
    "OpenVINO": (".xml",),
    "scikit-learn or another Python library": (".pkl", ".pickle", ".joblib"),
    "a gradient boosting library": (".ubj", ".cbm", ".bst"),
    "Core ML": (".mlmodel", ".mlpackage"),
    "llama.cpp": (".gguf",),
}
_EXPORT = "this server runs ONNX models: export it to ONNX"

# By the first bytes; white space before them does not count where they are text.
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS instead of the model: run git lfs pull"),
    (b"<!doctype html", "an HTML page, such as a server sends in place of a file: download the model again"),
    (b"<html", "an HTML page, such as a server sends in place of a file: download the model again"),
    (b"<?xml", "an XML document, such as a server sends in place of a file: download the model again"),
    (b"{", "JSON, such as a server sends in place of a file: download the model again"),
    (b"\x1f\x8b", "compressed (gzip): unpack it"),
    (b"BZh", "compressed (bzip2): unpack it"),
    (b"\xfd7zXZ\0", "compressed (xz): unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstandard): unpack it"),
    (b"\x93NUMPY", f"a numpy array; {_EXPORT.partition(':')[0]}"),
    (b"\x89HDF\r\n\x1a\n", f"a model of Keras (HDF5); {_EXPORT}"),
    (b"\x80\x02", f"a Python pickle, such as PyTorch writes; {_EXPORT}"),
    (b"\x80\x04", f"a Python pickle; {_EXPORT}"),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# The first member of the archive that torch.save writes, which is a zip.
_TORCH_MEMBER = b"/data.pkl"
LONGEST_BEGINNING = 512
"""As many bytes of a file tell what it is."""


def beginning_of(model: Path | bytes) -> bytes:
    """The first bytes of a file, or of its content. Raises OSError."""
    if isinstance(model, bytes):
        return model[:LONGEST_BEGINNING]
    with model.open("rb") as file:
        return file.read(LONGEST_BEGINNING)


def framework_of(names: Iterable[str]) -> str:
    """The first of ``names`` that another framework's model has, as a sentence; "" where none does."""
    for name in names:
        for framework, ends in _FRAMEWORKS.items():
            if PurePosixPath(name).name.lower().endswith(ends):
                return f"'{name}' is a model of {framework}, and {_EXPORT}"
    return ""


def kind_of(beginning: bytes) -> str:
    """What a file is that ONNX Runtime cannot read, by its first bytes, as the end of a sentence; "" if unknown."""
    if not beginning:
        return "empty: copy or export the model again"
    if not beginning.strip(b"\0"):
        return "full of zeros, as copies are that broke off: copy or export the model again"
    if beginning.startswith(_ZIP):
        if _TORCH_MEMBER in beginning:
            return f"a model of PyTorch; {_EXPORT}"
        return "a zip archive: unpack it"
    text = beginning.lstrip().lower()
    return next((kind for start, kind in _BEGINNINGS if beginning.startswith(start) or text.startswith(start)), "")
