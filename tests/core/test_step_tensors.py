"""What an ensemble holds of a request between its steps: what is still needed, and nothing else."""

import numpy as np

from ortolan.core.ensemble_graph import StepRun
from ortolan.core.step_tensors import StepTensors
from ortolan.inference.datatypes import FP32
from ortolan.inference.request import Tensor

# A fork: the first step's output goes to both others, one of which also takes the request's own input.
FIRST = StepRun(0, {"y": "t"}, frozenset(), {"x": "in"})
LEFT = StepRun(1, {"y": "left"}, frozenset({0}), {"x": "t"})
RIGHT = StepRun(2, {"y": "right"}, frozenset({0}), {"x": "t", "w": "in", "z": "left out"})
RUNS = (FIRST, LEFT, RIGHT)


def tensor(name: str) -> Tensor:
    return Tensor(name, FP32, (1,), np.zeros(1, np.float32))


def test_each_tensor_is_let_go_of_after_the_last_step_that_takes_it() -> None:
    tensors = StepTensors([tensor("in")], RUNS, ["left", "right"])
    tensors.put(FIRST, [tensor("y")])
    assert len(tensors) == 2
    tensors.put(LEFT, [tensor("y")])
    assert len(tensors) == 3
    tensors.put(RIGHT, [tensor("y")])
    assert [each.name for each in tensors.named(["right", "left"])] == ["right", "left"]
    assert len(tensors) == 2


def test_what_is_wanted_stays_even_if_a_step_takes_it_too() -> None:
    tensors = StepTensors([tensor("in")], RUNS, ["t", "left", "right"])
    for run in RUNS:
        tensors.put(run, [tensor("y")])
    assert [each.name for each in tensors.named(["t"])] == ["t"]


def test_a_step_gets_its_inputs_by_its_own_names_and_what_was_left_out_not_at_all() -> None:
    tensors = StepTensors([tensor("in")], RUNS, ["right"])
    tensors.put(FIRST, [tensor("y")])
    assert [each.name for each in tensors.taken_by(RIGHT)] == ["x", "w"]


def test_a_tensor_that_one_step_takes_twice_is_there_for_both() -> None:
    both = StepRun(0, {"y": "out"}, frozenset(), {"x": "in", "w": "in"})
    tensors = StepTensors([tensor("in")], [both], ["out"])
    assert [each.name for each in tensors.taken_by(both)] == ["x", "w"]
    tensors.put(both, [tensor("y")])
    assert len(tensors) == 1
