"""The floor under every server: ONNX Runtime's run() of the same inputs in a loop, with one thread and no server."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ortolan.execution.text_elements import texts_of
from ortolan.inference.datatypes import Array


def session_floor(model: Path, batches: Mapping[int, Mapping[str, Array]], seconds: float) -> dict[int, float]:
    """Rows per second for each number of rows, from ``seconds`` of runs with the inputs given for it.

    Raises ValueError where the runtime does not take the model or its inputs.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return {rows: rows * _runs_per_s(session, inputs, seconds) for rows, inputs in batches.items()}
    except Exception as error:
        # ONNX Runtime's errors have no class in common but this one.
        raise ValueError(str(error)) from error


def _runs_per_s(session: ort.InferenceSession, inputs: Mapping[str, Array], seconds: float) -> float:
    fed = {name: texts_of(each) if each.dtype == np.object_ else each for name, each in inputs.items()}
    session.run(None, fed)
    runs, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        session.run(None, fed)
        runs += 1
    return max(runs, 1) / passed
