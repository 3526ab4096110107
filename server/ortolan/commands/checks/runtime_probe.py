"""A program that asks ONNX Runtime what it can do, and prints each answer at once: after a crash the last one counts.

``python -m ortolan.commands.checks.runtime_probe GPUS``
"""

import json
import sys
from typing import Any

# One Identity of a float, of IR 7 and opset 13, which all supported versions take.
MODEL = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01g'
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"B\x04\n\x00\x10\r"
)


def main(gpus: int) -> None:
    """Everything there is to ask; whatever goes wrong is for whoever reads the output."""
    import onnxruntime

    _say("version", onnxruntime.__version__)
    providers = onnxruntime.get_available_providers()
    _say("providers", providers)
    _say("cpu", _providers_of_a_session(["CPUExecutionProvider"]))
    if gpus and "CUDAExecutionProvider" in providers:
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        _say("cuda", _providers_of_a_session(["CUDAExecutionProvider", "CPUExecutionProvider"]))


def _providers_of_a_session(asked: list[str]) -> list[str]:
    """Those that a model really gets: what is listed as available may lack its libraries."""
    import numpy
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(MODEL, providers=asked)
    session.run(None, {"x": numpy.ones(1, numpy.float32)})
    return list(session.get_providers())


def _say(name: str, value: object) -> None:
    print(json.dumps({name: value}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
