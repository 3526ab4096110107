"""Answers leave in the order in which their requests came, whatever order they are made in."""

from hypothesis import given
from hypothesis import strategies as st

from ortolan.execution.ordered_answers import OrderedAnswers


class Answers:
    """An ``OrderedAnswers`` over numbers, and what it released so far."""

    def __init__(self, expected: int) -> None:
        self.ordered: OrderedAnswers[int] = OrderedAnswers()
        self.released: list[object] = []
        for request in range(expected):
            self.ordered.expect(request)

    def complete(self, request: int, answer: object = None) -> None:
        self.ordered.complete(request, lambda: self.released.append(request if answer is None else answer))


def test_an_answer_waits_for_those_of_earlier_requests() -> None:
    answers = Answers(4)
    answers.complete(2)
    answers.complete(1)
    assert answers.released == []
    answers.complete(0)
    assert answers.released == [0, 1, 2]
    answers.complete(3)
    assert answers.released == [0, 1, 2, 3]


@given(st.permutations(range(8)), st.integers(0, 8))
def test_whatever_the_order_of_completion(order: list[int], late: int) -> None:
    answers = Answers(late)
    arrived = late
    for done, request in enumerate(order):
        while arrived <= request:
            answers.ordered.expect(arrived)
            arrived += 1
        answers.complete(request)
        complete = set(order[: done + 1])
        prefix = next((first for first in range(8) if first not in complete), 8)
        assert answers.released == list(range(prefix))
        assert len(answers.ordered) == arrived - prefix
    assert len(answers.ordered) == 0


def test_an_answer_that_no_one_waits_for_does_not_hold_up_the_next() -> None:
    answers = Answers(2)
    answers.ordered.complete(0, lambda: None)
    answers.complete(1)
    assert answers.released == [1]


def test_an_answer_is_replaced_before_its_turn_and_passes_after_it() -> None:
    answers = Answers(2)
    answers.complete(1, "first")
    answers.complete(1, "second")
    answers.complete(0, "zero")
    assert answers.released == ["zero", "second"]
    answers.complete(1, "late")
    assert answers.released == ["zero", "second", "late"]


def test_an_answer_to_a_request_that_was_never_expected_passes() -> None:
    answers = Answers(1)
    answers.complete(7)
    assert answers.released == [7]


def test_a_release_may_complete_another_request() -> None:
    answers = Answers(3)
    answers.complete(2)
    answers.ordered.complete(0, lambda: answers.complete(1))
    assert answers.released == [1, 2]
