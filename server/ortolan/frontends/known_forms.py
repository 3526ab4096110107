"""What both frontends keep of requests whose form came before: when to learn one, and how its answers look."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from ortolan.inference.datatypes import Array
from ortolan.inference.request import InferenceResponse

# A client whose requests are all different makes each of them be looked at in vain: after some, only now and then.
_FREE_LESSONS = 32
_LESSON_EACH = 64
_MOST_FRAMES = 4
_LONGEST_FRAME_BYTES = 4096


class Lessons:
    """Whether it pays off to learn more forms."""

    __slots__ = ("_begun", "_learned", "_missed")

    def __init__(self) -> None:
        self._learned = 0
        self._begun = 0
        self._missed = 0

    @property
    def begun_count(self) -> int:
        """How many requests were begun by what had been learned."""
        return self._begun

    def begun(self) -> None:
        """What was learned was of use."""
        self._begun += 1

    def missed(self) -> None:
        """A request came that is not known."""
        self._missed += 1

    def learned(self) -> None:
        self._learned += 1

    def outdated(self) -> None:
        """What was learned is so no more, and may be learned again."""
        self._learned -= 1

    @property
    def pay(self) -> bool:
        return self._learned < max(_FREE_LESSONS, self._begun) or not self._missed % _LESSON_EACH


class Frame(Protocol):
    """What stands around the elements of an answer."""

    @property
    def text_bytes(self) -> int:
        """What it takes of memory, roughly."""


_F = TypeVar("_F", bound=Frame)


class Frames(Generic[_F]):
    """The frames of the answers to one form of request, by the shapes of their outputs: a few, and no long ones."""

    __slots__ = ("_frames", "_make")

    def __init__(self, make: Callable[[InferenceResponse], _F]) -> None:
        self._make = make
        self._frames: dict[tuple[object, ...], _F] = {}

    def find(self, outputs: Sequence[Array]) -> _F | None:
        return self._frames.get(_shapes(outputs))

    def learn(self, response: InferenceResponse) -> None:
        """Keep that of ``response``, if there is room."""
        if len(self._frames) < _MOST_FRAMES:
            frame = self._make(response)
            if frame.text_bytes <= _LONGEST_FRAME_BYTES:
                self._frames[_shapes([tensor.array for tensor in response.outputs])] = frame


def _shapes(outputs: Sequence[Array]) -> tuple[object, ...]:
    return outputs[0].shape if len(outputs) == 1 else tuple([array.shape for array in outputs])
