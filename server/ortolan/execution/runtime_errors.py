"""What ONNX Runtime says when it fails, as text for a client: without build paths, file paths or its own framing."""

import re
from collections.abc import Sequence

_FRAME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ :\s*")
# A source file, its line, the signature of the function and the condition that did not hold, up to the sentence that
# follows; or, as newer versions have it, the bare file name and the function's name.
_SOURCE_LINE = re.compile(r"/onnxruntime_src/\S+?:\d+ (?:.*? was false\. |.*?(?<=[)\]>] )(?=[A-Z]))")
_SOURCE_NAME = re.compile(r"\b\w+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ \w+ ")
_LOADING = re.compile(r"Load model from .*? failed:\s*")
# A node's name often begins with a slash and has more of them; it is no path, and it says where to look.
_PATH = re.compile(r"(?<![\w.…])(?<!Name:')(?:\.{1,2}|[A-Za-z]:)?[\\/](?:[^\s\\/:'\"(),]+[\\/])+[^\s:'\"(),]*")
# Of a model in memory it says otherwise what it says of a file.
_UNREADABLE_IN_MEMORY = "Failed to load model because protobuf parsing failed"
_UNREADABLE = "Protobuf parsing failed"
_LONGEST = 600
_NO_MEMORY = re.compile(
    r"Failed to allocate memory for requested buffer of size (?P<bytes>\d+)"
    r"|std::bad_alloc|bad allocation|CUDA\w* (?:failure|error) 2: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
)


def missing_memory(error: BaseException) -> str | None:
    """What there was no memory for, as a part of a sentence such as ``2.0 GiB``; None for any other error."""
    if isinstance(error, MemoryError):
        return "memory"
    found = _NO_MEMORY.search(str(error))
    if found is None:
        return None
    return _shown(int(found["bytes"])) if found["bytes"] else "memory"


def _shown(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} PiB"


def readable(error: BaseException, private: Sequence[str] = ()) -> str:
    """The text of an ONNX Runtime error in one line, at most 600 characters, safe to show to a client.

    ``private``: the paths that the caller gave to the runtime. Those are found however they are spelt; others only
    where they look like paths.
    """
    text = str(error)
    for path in sorted(filter(None, private), key=len, reverse=True):
        text = text.replace(path, "…")
    text = " ".join(text.split())
    text = _FRAME.sub("", text)
    text = _SOURCE_LINE.sub("", text)
    text = _SOURCE_NAME.sub(" ", text)
    text = _LOADING.sub("", text)
    text = _PATH.sub("…", text)
    text = text.replace(_UNREADABLE_IN_MEMORY, _UNREADABLE)
    return " ".join(text.split())[:_LONGEST] or type(error).__name__
