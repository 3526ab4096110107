from dataclasses import dataclass

import pytest

from ortolan.execution.sequence_policy import LaneRule, RunRows, WaitUntil, decide


@dataclass
class Waiting:
    enqueued_ns: int
    shapes: object = None


FOUR = LaneRule(4)
HALF = LaneRule(4, 100, 0.5)
DELAY_ONLY = LaneRule(4, 100, 0.0)


@pytest.mark.parametrize(
    ("rule", "ready", "now_ns", "decision"),
    [
        # What is ready runs.
        (FOUR, {0: Waiting(0)}, 0, RunRows((0,))),
        (FOUR, {3: Waiting(0), 1: Waiting(5)}, 9, RunRows((1, 3))),
        # The oldest says what the shapes are.
        (FOUR, {0: Waiting(5, "a"), 1: Waiting(0, "b"), 2: Waiting(9, "b")}, 9, RunRows((1, 2))),
        (FOUR, {0: Waiting(0, "a"), 1: Waiting(0, "b")}, 9, RunRows((0,))),
        # Half of the slots, or the whole delay.
        (HALF, {0: Waiting(10)}, 10, WaitUntil(110)),
        (HALF, {0: Waiting(10)}, 109, WaitUntil(110)),
        (HALF, {0: Waiting(10)}, 110, RunRows((0,))),
        (HALF, {0: Waiting(10), 2: Waiting(20)}, 20, RunRows((0, 2))),
        (HALF, {0: Waiting(10, "a"), 2: Waiting(20, "b")}, 20, WaitUntil(110)),
        # As in Triton, a delay alone has no effect.
        (DELAY_ONLY, {0: Waiting(10)}, 10, RunRows((0,))),
    ],
)
def test_decisions(rule: LaneRule, ready: dict[int, Waiting], now_ns: int, decision: RunRows | WaitUntil) -> None:
    assert decide(ready, now_ns, rule) == decision
