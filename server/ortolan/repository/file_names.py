"""Which file names a model configuration may use: those that stay inside the model's own directory. Pure."""

from pathlib import PurePosixPath, PureWindowsPath


def stays_inside(filename: str) -> bool:
    """Whether ``filename``, taken from the model's directory, names something in it.

    Absolute names, ``..``, backslashes and control characters do not. Symbolic links are the operator's own choice
    and are followed.
    """
    if not filename or not filename.isprintable() or "\\" in filename:
        return False
    if filename.startswith("/") or PureWindowsPath(filename).drive:
        return False
    parts = PurePosixPath(filename).parts
    return bool(parts) and ".." not in parts


def is_golden_directory(name: str) -> bool:
    """Whether a directory of this name has golden requests, by the ONNX model zoo's custom."""
    return name.startswith("test_data_set_")
