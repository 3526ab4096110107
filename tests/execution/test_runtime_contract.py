"""What ``Session`` leans on inside ONNX Runtime's Python package: the session behind its wrapper."""

import inspect

import numpy as np
import onnx_models
import onnxruntime as ort
import pytest


def session() -> ort.InferenceSession:
    return ort.InferenceSession(onnx_models.doubler().SerializeToString(), providers=["CPUExecutionProvider"])


def test_the_session_behind_the_wrapper_gives_the_same_answers() -> None:
    wrapper = session()
    inputs = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    for options in (None, ort.RunOptions()):
        behind = wrapper._sess.run(["y"], inputs, options)
        assert isinstance(behind, list)
        np.testing.assert_array_equal(behind[0], wrapper.run(["y"], inputs)[0])
        assert isinstance(behind[0], np.ndarray)


def test_it_takes_names_in_a_tuple_and_any_order_of_bytes_in_memory() -> None:
    wrapper = session()
    misplaced = np.frombuffer(b"?" + np.ones(4, np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(1, 4)
    strided = np.ones((4, 4), np.float32)[::2]
    for x in (misplaced, strided):
        np.testing.assert_array_equal(wrapper._sess.run(("y",), {"x": x}, None)[0], 2 * np.ones(x.shape))


@pytest.mark.parametrize("x", [np.ones((1, 5), np.float32), np.ones((1, 4), np.float64)], ids=["shape", "datatype"])
def test_it_refuses_what_the_wrapper_refuses_in_the_same_words(x: np.ndarray) -> None:
    wrapper = session()
    texts = []
    for run in (wrapper.run, wrapper._sess.run):
        with pytest.raises(Exception, match=r"Got|Unexpected") as found:
            run(["y"], {"x": x}, None)
        texts.append((type(found.value).__name__, str(found.value)))
    assert texts[0] == texts[1]


def test_the_wrapper_does_nothing_for_plain_runs_that_session_does_not_do() -> None:
    """It checks the inputs' names, as ``Session.run`` does, and falls back to other providers, which we turn off."""
    source = inspect.getsource(ort.InferenceSession.run)
    calls = {line.strip().split("(")[0] for line in source.splitlines() if line.strip().startswith("self._")}
    assert calls <= {
        "self._validate_graph_capture_run_api",
        "self._validate_input",
        "self._validate_ortvalue_ownership",
    }, "ONNX Runtime's wrapper does more than when Session.run was written: look whether plain runs need it"
