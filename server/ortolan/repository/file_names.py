"""Which file names a model configuration may use: those that stay inside the model's own directory. Pure."""

from pathlib import PurePosixPath, PureWindowsPath


def stays_inside(filename: str) -> bool:
    """Whether ``filename``, taken from the model's directory, names something in it.

    Absolute names, ``..``, backslashes and control characters do not. Where links lead is looked at when the file
    is opened.
    """
    if not filename or not filename.isprintable() or "\\" in filename:
        return False
    if filename.startswith("/") or PureWindowsPath(filename).drive:
        return False
    parts = PurePosixPath(filename).parts
    return bool(parts) and ".." not in parts


def directories_above(path: str) -> list[str]:
    """The directories that a relative path with slashes leads through, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def is_golden_directory(name: str) -> bool:
    """Whether a directory of this name has golden requests, by the ONNX model zoo's custom."""
    return name.startswith("test_data_set_")
