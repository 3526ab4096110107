import json

import onnx
import pytest

from ortolan.commands.checks.child import Ended
from ortolan.commands.checks.finding import Level
from ortolan.commands.checks.runtime import judged, wrong_builds
from ortolan.commands.checks.runtime_probe import MODEL

CPU, GPU = {"onnxruntime": "1.31.1"}, {"onnxruntime-gpu": "1.31.1"}
BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]
LIBRARY = "[E:onnxruntime] Failed to load library: libcublasLt.so.13: cannot open shared object file: No such file\n"


def told(code: int | None = 0, err: str = "", **answers: object) -> Ended:
    return Ended(code, "".join(json.dumps({name: value}) + "\n" for name, value in answers.items()), err)


def test_the_model_that_is_tried_is_one() -> None:
    onnx.checker.check_model(onnx.load_from_string(MODEL))


@pytest.mark.parametrize(
    ("builds", "remedy"),
    [
        ({}, 'pip install "ortolan[cpu]", or for NVIDIA GPUs pip install "ortolan[gpu]"'),
        ({**CPU, **GPU}, 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "ortolan[gpu]"'),
        (
            {**CPU, "onnxruntime-openvino": "1.24"},
            'pip uninstall -y onnxruntime onnxruntime-openvino && pip install "ortolan[cpu]"',
        ),
    ],
)
def test_there_is_to_be_one_build(builds: dict[str, str], remedy: str) -> None:
    (finding,) = wrong_builds(builds)
    assert (finding.level, finding.remedy) == (Level.BROKEN, remedy)
    assert wrong_builds(CPU) == []


CASES = [
    # builds, GPUs, what the probe said → the level of each finding, and a word of the last one
    (CPU, 0, told(version="1.31.1", providers=["CPUExecutionProvider"], cpu=[]), "ok ok", "the CPU"),
    (CPU, 2, told(version="1.31.1", providers=["CPUExecutionProvider"], cpu=[]), "ok warning", "2 GPU(s) are here"),
    (GPU, 0, told(version="1.31.1", providers=BOTH, cpu=[]), "ok warning", "none is to be seen"),
    (GPU, 1, told(version="1.31.1", providers=BOTH, cpu=[], cuda=BOTH), "ok ok", "1 GPU(s), by CUDA"),
    (
        GPU,
        1,
        told(version="1.31.1", providers=BOTH, cpu=[], cuda=["CPU"], err=LIBRARY),
        "ok broken",
        "libcublasLt.so.13",
    ),
    (GPU, 1, told(-6, "driver too old\n", version="1.31.1", providers=BOTH, cpu=[]), "ok broken", "driver too old"),
    (GPU, 1, told(None, "", version="1.31.1", providers=BOTH, cpu=[]), "ok broken", "took too long"),
    (CPU, 0, told(1, "ImportError: libm\n"), "broken", "cannot be imported: ImportError: libm"),
    (CPU, 0, told(-11), "broken", "cannot be imported: was ended by signal 11"),
    (CPU, 0, told(1, "AttributeError: x\n", version="1.31.1"), "broken", "is not whole: AttributeError: x"),
    (CPU, 0, told(-4, version="1.31.1", providers=["CPUExecutionProvider"]), "ok broken", "ended by signal 4"),
    (CPU, 0, told(version="1.20.0", providers=["CPUExecutionProvider"], cpu=[]), "broken", "is not supported"),
    (CPU, 0, Ended(0, "noise\n[1]\n", ""), "broken", "it says no version"),
]


@pytest.mark.parametrize(("builds", "gpus", "ended", "levels", "said"), CASES)
def test_what_the_runtime_can_do_is_what_it_did(
    builds: dict[str, str], gpus: int, ended: Ended, levels: str, said: str
) -> None:
    findings = judged(builds, gpus, ended)
    assert " ".join(each.level.value for each in findings) == levels
    assert said in findings[-1].text
    assert all(each.remedy for each in findings if each.level is not Level.OK)
