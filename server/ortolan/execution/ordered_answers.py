"""Answers in the order in which their requests came, for models with ``preserve_ordering``. Pure."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_R = TypeVar("_R")


@dataclass(slots=True, eq=False)
class _Place(Generic[_R]):
    request: _R
    release: Callable[[], None] | None = None


class OrderedAnswers(Generic[_R]):
    """Holds each answer back until those of all earlier requests are released."""

    def __init__(self) -> None:
        self._places: deque[_Place[_R]] = deque()
        self._by_request: dict[_R, _Place[_R]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def expect(self, request: _R) -> None:
        """``request`` has come; its answer follows those of all that came before."""
        place = _Place(request)
        self._places.append(place)
        self._by_request[request] = place

    def complete(self, request: _R, release: Callable[[], None]) -> None:
        """``request`` has its answer: call ``release`` once it is its turn, which may be now.

        Another answer before that replaces it; one that comes after it is released at once.
        """
        place = self._by_request.get(request)
        if place is None:
            release()
            return
        place.release = release
        while self._places and (following := self._places[0].release) is not None:
            del self._by_request[self._places.popleft().request]
            following()
