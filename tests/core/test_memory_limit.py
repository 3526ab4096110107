"""How much a process may ask for, by what it has asked for and what of that it uses."""

import pytest

from ortolan.core.memory_limit import AskedMemory, allowed_bytes, limit_bytes

GIB = 1 << 30
MIB = 1 << 20
STACKS = 80 * MIB
RESTING = AskedMemory(asked_bytes=500 * MIB, used_bytes=100 * MIB, stack_bytes=STACKS)


@pytest.mark.parametrize(
    ("looks", "more_than_allowed", "why"),
    [
        ([RESTING], 400 * MIB, "what is not used does not count"),
        ([RESTING] * 12, 400 * MIB, "however often one looks"),
        (
            [RESTING, AskedMemory(RESTING.asked_bytes + 4 * GIB, RESTING.used_bytes, STACKS)],
            400 * MIB,
            "what was asked for just now is about to be used",
        ),
        (
            [AskedMemory(RESTING.asked_bytes + 4 * GIB, RESTING.used_bytes, STACKS)] * 12,
            4 * GIB + 400 * MIB,
            "what is not used for long will not be",
        ),
        (
            [RESTING, AskedMemory(RESTING.asked_bytes + 16 * MIB, RESTING.used_bytes, STACKS + 16 * MIB)],
            416 * MIB,
            "two threads that have just begun",
        ),
        ([AskedMemory(500 * MIB, 600 * MIB, 0)], 0, "what is used beside what was asked for raises nothing"),
    ],
)
def test_what_is_asked_for_and_not_used_raises_the_limit(
    looks: list[AskedMemory], more_than_allowed: int, why: str
) -> None:
    assert limit_bytes(GIB, looks) - GIB == more_than_allowed, why


@pytest.mark.parametrize(
    ("text", "processes", "has_gpu", "expected"),
    [
        ("auto", 1, False, 9 * GIB),
        ("auto", 3, False, 3 * GIB),
        ("auto", 1, True, 0),
        ("off", 1, False, 0),
        ("50%", 1, True, 5 * GIB),
        ("8GiB", 4, False, 2 * GIB),
    ],
)
def test_each_process_may_use_its_part(text: str, processes: int, has_gpu: bool, expected: int) -> None:
    assert allowed_bytes(text, 10 * GIB, processes, has_gpu) == expected
