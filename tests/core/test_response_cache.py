"""What is kept, for which question, and what goes first."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.response_cache import CacheKey, ResponseCache, are_small, digest_of, kept
from ortolan.inference.datatypes import BYTES, FP32, INT32, Array, Datatype
from ortolan.inference.request import InferenceRequest, RequestedOutput, Tensor

VERSION = object()
OUTPUTS = ("y", "z")
X = Tensor("x", FP32, (2, 2), np.arange(4, dtype=np.float32).reshape(2, 2))


def tensor(name: str, array: Array, datatype: Datatype = FP32) -> Tensor:
    return Tensor(name, datatype, array.shape, array)


def asked(*inputs: Tensor, outputs: Sequence[RequestedOutput] = (), **others: object) -> InferenceRequest:
    return InferenceRequest("m", inputs=inputs, outputs=tuple(outputs), **others)  # type: ignore[arg-type]


def texts(*elements: bytes) -> Array:
    return np.array(elements, object)


@pytest.mark.parametrize(
    "other",
    [
        asked(tensor("z", X.array)),
        asked(tensor("x", X.array + 1)),
        asked(tensor("x", X.array.reshape(4))),  # the same bytes in another shape
        asked(tensor("x", X.array.view(np.int32), INT32)),  # the same bytes of another datatype
        asked(X, X),
        asked(),
        asked(X, outputs=[RequestedOutput("y")]),
        asked(X, outputs=[RequestedOutput("y", class_count=2)]),
        asked(X, outputs=[RequestedOutput("y"), RequestedOutput("z", class_count=1)]),
    ],
)
def test_another_question_has_another_key(other: InferenceRequest) -> None:
    assert digest_of(other, OUTPUTS) != digest_of(asked(X), OUTPUTS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (asked(X, tensor("w", X.array)), asked(tensor("w", X.array), X)),  # the order of inputs
        (asked(X), replace(asked(X), id="7", deadline_ns=1, parameters={"priority": 1})),
        (asked(X, outputs=[RequestedOutput("y")]), asked(X, outputs=[RequestedOutput("y", binary=True)])),
        (asked(X), asked(X, outputs=[RequestedOutput("y"), RequestedOutput("z")])),  # all of them by name
        (asked(X), asked(X, outputs=[RequestedOutput("z"), RequestedOutput("y")])),  # the order of outputs
        (asked(tensor("x", X.array.T)), asked(tensor("x", np.ascontiguousarray(X.array.T)))),
    ],
)
def test_the_same_question_has_the_same_key(one: InferenceRequest, other: InferenceRequest) -> None:
    assert digest_of(one, OUTPUTS) == digest_of(other, OUTPUTS)


_ELEMENTS = st.lists(st.binary(max_size=3), max_size=3)


@given(_ELEMENTS, _ELEMENTS, _ELEMENTS, _ELEMENTS)
def test_no_two_questions_of_texts_run_together(
    x: list[bytes], w: list[bytes], other_x: list[bytes], other_w: list[bytes]
) -> None:
    one = asked(tensor("x", texts(*x), BYTES), tensor("w", texts(*w), BYTES))
    other = asked(tensor("x", texts(*other_x), BYTES), tensor("w", texts(*other_w), BYTES))
    assert (digest_of(one, OUTPUTS) == digest_of(other, OUTPUTS)) == ((x, w) == (other_x, other_w))


# -- what is kept -----------------------------------------------------------------------------------------------------


def key(number: int, version: object = VERSION) -> CacheKey:
    return CacheKey(version, bytes([number]))


def keep(cache: ResponseCache, of: CacheKey, outputs: Sequence[Tensor]) -> None:
    if answer := kept(outputs, cache.max_bytes):
        cache.keep(of, answer)


def kilobytes(count: int) -> list[Tensor]:
    return [tensor("y", np.zeros(count * 256, np.float32))]


def test_what_was_used_least_recently_goes_first() -> None:
    cache = ResponseCache(30_000)
    for number in range(3):
        keep(cache, key(number), kilobytes(8))
    assert cache.find(key(0)) is not None
    keep(cache, key(3), kilobytes(8))
    assert [cache.find(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert cache.size_bytes <= 30_000


def test_what_is_larger_than_the_cache_is_not_kept_and_nothing_goes_for_it() -> None:
    cache = ResponseCache(30_000)
    keep(cache, key(0), kilobytes(8))
    keep(cache, key(1), kilobytes(64))
    assert (len(cache), cache.find(key(1))) == (1, None)


def test_an_answer_is_kept_apart_from_what_it_was_a_view_of() -> None:
    batch = np.arange(8, dtype=np.float32)
    cache = ResponseCache(30_000)
    keep(cache, key(0), [tensor("y", batch[:4])])
    batch[:] = 0
    (found,) = cache.find(key(0)) or ()
    assert found.array.tolist() == [0, 1, 2, 3]
    assert not found.array.flags.writeable


@pytest.mark.parametrize(
    ("array", "copied"),
    [
        (np.ones(4, np.float32), False),
        (np.ones(4, np.float32).reshape(2, 2), False),
        (np.ones(8, np.float32)[:4], True),
        (np.broadcast_to(np.float32(1), (4,)), True),
        (np.frombuffer(bytes(16), np.float32), True),  # of a buffer that somebody else has
    ],
)
def test_only_what_is_part_of_something_else_is_copied(array: Array, copied: bool) -> None:
    answer = kept([tensor("y", array)], 30_000)
    assert answer is not None
    (own,) = answer.outputs
    assert np.shares_memory(own.array, array) is not copied
    assert np.array_equal(own.array, array)
    assert not own.array.flags.writeable


@pytest.mark.parametrize(
    ("array", "datatype", "small"),
    [
        (np.zeros(1 << 18, np.float32), FP32, True),
        (np.zeros((1 << 18) + 1, np.float32), FP32, False),
        (texts(*[b""] * 1000), BYTES, True),
        (texts(*[b""] * 100_000), BYTES, False),
        (texts(bytes(1 << 20)), BYTES, False),
    ],
)
def test_what_takes_long_to_read_is_not_read_on_the_loop(array: Array, datatype: Datatype, small: bool) -> None:
    assert are_small([tensor("x", array, datatype)]) is small


def test_texts_count_by_their_length() -> None:
    cache = ResponseCache(30_000)
    keep(cache, key(0), [tensor("y", texts(b"x" * 40_000), BYTES)])
    assert len(cache) == 0


def test_a_version_that_is_gone_leaves_nothing() -> None:
    other = object()
    cache = ResponseCache(30_000)
    keep(cache, key(0), kilobytes(1))
    keep(cache, key(0, other), kilobytes(1))
    cache.forget(VERSION)
    assert (len(cache), cache.find(key(0))) == (1, None)
    cache.forget(other)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_many_answers_are_forgotten_by_and_by() -> None:
    cache = ResponseCache(1 << 20)
    for number in range(5):
        keep(cache, key(number), kilobytes(1))
    assert [cache.forget(VERSION, 2) for _ in range(3)] == [True, True, False]
    assert (len(cache), cache.size_bytes, cache.forget(VERSION)) == (0, 0, False)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=60))
def test_it_never_holds_more_than_it_may(steps: list[tuple[int, int]]) -> None:
    cache = ResponseCache(10_000)
    for number, size in steps:
        if cache.find(key(number)) is None:
            keep(cache, key(number), kilobytes(size))
            assert cache.find(key(number)) is not None
        assert 0 <= cache.size_bytes <= 10_000
