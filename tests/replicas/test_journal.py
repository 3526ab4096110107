from collections.abc import Sequence
from typing import Any

import pytest

from ortolan.replicas.journal import Journal, subject_of

Done = tuple[str, Sequence[Any]]


def replayed(*done: Done) -> list[Done]:
    journal = Journal()
    for action, arguments in done:
        journal.note(action, arguments)
    return [(entry.action, entry.arguments) for entry in (*journal.loads_since(0), *journal.settings())]


# what was done, what a replica that comes later has to do
CASES = [
    # the last of a model decides, in the order of time
    ([("load", ["a", {}]), ("load", ["b", {}]), ("unload", ["a", {}])], [("load", ["b", {}]), ("unload", ["a", {}])]),
    ([("load", ["a", {"x": 1}]), ("load", ["a", {}])], [("load", ["a", {}])]),
    # changes add up, of all models and of each by itself
    ([("trace", ["", {"r": 1}]), ("trace", ["", {"l": 2}])], [("trace", ["", {"r": 1, "l": 2}])]),
    ([("trace", ["a", {"r": 1}]), ("trace", ["", {"r": 2}])], [("trace", ["a", {"r": 1}]), ("trace", ["", {"r": 2}])]),
    ([("log", [{"v": 1}]), ("log", [{"v": 0}])], [("log", [{"v": 0}])]),
    # regions go by kind and name
    ([("register_system", ["r", "k", 0, 1]), ("unregister", ["system", "r"])], []),
    ([("register_system", ["r", "k", 0, 1]), ("unregister", ["system", ""])], []),
    (
        [("register_system", ["r", "k", 0, 1]), ("unregister", ["cuda", "r"]), ("unregister", ["system", "other"])],
        [("register_system", ["r", "k", 0, 1])],
    ),
]


@pytest.mark.parametrize(("done", "expected"), CASES)
def test_what_holds_is_replayed_and_nothing_else(done: list[Done], expected: list[Done]) -> None:
    assert replayed(*done) == expected


def test_only_what_is_newer_is_asked_for() -> None:
    journal = Journal()
    journal.note("load", ["a", {}])
    (first,) = journal.loads_since(0)
    assert journal.loads_since(first.number) == []
    journal.note("load", ["a", {}])
    assert [entry.arguments for entry in journal.loads_since(first.number)] == [["a", {}]]


def test_loads_of_one_model_follow_each_other_and_all_settings_do() -> None:
    assert subject_of("load", ["a", {}]) == subject_of("unload", ["a", {}]) != subject_of("load", ["b", {}])
    assert subject_of("trace", ["a", {}]) == subject_of("log", [{}]) == subject_of("unregister", ["system", "a"])
