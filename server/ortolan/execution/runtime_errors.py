"""What ONNX Runtime says when it fails, as text for a client: without build paths, file paths or its own framing."""

import re

_FRAME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
# A source file, its line and the signature of the function, up to the sentence that follows.
_SOURCE_LINE = re.compile(r"/onnxruntime_src/\S+?:\d+ .*?(?<=[)\]>] )(?=[A-Z])")
_LOADING = re.compile(r"Load model from .*? failed:\s*")
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'\"(),]+[\\/])+[^\s:'\"(),]*")
_LONGEST = 600


def readable(error: BaseException) -> str:
    """The text of an ONNX Runtime error in one line, at most 600 characters, safe to show to a client."""
    text = " ".join(str(error).split())
    text = _FRAME.sub("", text)
    text = _SOURCE_LINE.sub("", text)
    text = _LOADING.sub("", text)
    text = _PATH.sub("…", text).strip()
    return text[:_LONGEST] or type(error).__name__
