"""When forms of requests are learned, and how much is kept of their answers."""

import numpy as np
import pytest

from ortolan.frontends.known_forms import Frames, Lessons
from ortolan.inference import datatypes
from ortolan.inference.request import InferenceResponse, Tensor


def lessons(learned: int = 0, begun: int = 0, missed: int = 0, outdated: int = 0) -> Lessons:
    made = Lessons()
    for count, step in ((learned, made.learned), (begun, made.begun), (missed, made.missed), (outdated, made.outdated)):
        for _ in range(count):
            step()
    return made


@pytest.mark.parametrize(
    ("made", "pay"),
    [
        (lessons(missed=1), True),
        (lessons(learned=31, missed=31), True),
        (lessons(learned=32, missed=32), False),
        (lessons(learned=32, missed=32, outdated=1), True),
        (lessons(learned=100, begun=101, missed=100), True),
        (lessons(learned=100, begun=50, missed=100), False),
        (lessons(learned=100, missed=128), True),
    ],
)
def test_lessons_pay_at_first_while_they_are_of_use_and_now_and_then(made: Lessons, pay: bool) -> None:
    assert made.pay == pay


class Text:
    """A frame as long as its response's id."""

    def __init__(self, response: InferenceResponse) -> None:
        self.text_bytes = len(response.id)


def response(*shapes: tuple[int, ...], id_bytes: int = 1) -> InferenceResponse:
    tensors = [Tensor("y", datatypes.FP32, shape, np.zeros(shape, np.float32)) for shape in shapes]
    return InferenceResponse("m", "1", "a" * id_bytes, tuple(tensors))


def found(frames: Frames[Text], answer: InferenceResponse) -> bool:
    return frames.find([tensor.array for tensor in answer.outputs]) is not None


def test_frames_are_found_by_the_shapes_of_all_outputs() -> None:
    frames = Frames(Text)
    frames.learn(response((1, 2)))
    frames.learn(response((1, 2), (3,)))
    assert found(frames, response((1, 2)))
    assert found(frames, response((1, 2), (3,)))
    assert not found(frames, response((2, 1)))
    assert not found(frames, response((3,), (1, 2)))


def test_few_frames_are_kept_and_no_long_ones() -> None:
    frames = Frames(Text)
    frames.learn(response((1,), id_bytes=5000))
    assert not found(frames, response((1,)))
    for rows in range(1, 10):
        frames.learn(response((rows,)))
    assert [found(frames, response((rows,))) for rows in range(1, 10)] == [True] * 4 + [False] * 5
