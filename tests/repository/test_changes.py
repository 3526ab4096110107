from pathlib import Path

import pytest

from ortolan.repository.changes import Changes, RepositoryFollower, compare
from ortolan.repository.directory import ModelEntry, RepositoryListing, VersionEntry

HERE = Path("repository")


def entry(
    name: str, time_ns: int = 1, versions: tuple[int, ...] = (1,), config: bool = False, problem: str = ""
) -> ModelEntry:
    return ModelEntry(
        name=name,
        directory=HERE / name,
        repository=HERE,
        config_path=HERE / name / "config.pbtxt" if config else None,
        versions=tuple(VersionEntry(name, number, HERE / name / str(number)) for number in versions),
        fingerprint=(("1/model.onnx", 10, time_ns),),
        problem=problem,
    )


def listing(*entries: ModelEntry) -> RepositoryListing:
    return RepositoryListing({each.name: each for each in entries})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [], Changes()),
        ([entry("a")], [entry("a")], Changes()),
        ([], [entry("b"), entry("a")], Changes(appeared=("a", "b"))),
        ([entry("a")], [], Changes(vanished=("a",))),
        ([entry("a")], [entry("a", time_ns=2)], Changes(changed=("a",))),  # a file was written again
        ([entry("a")], [entry("a", versions=(1, 2))], Changes(changed=("a",))),  # an empty version directory
        ([entry("a")], [entry("a", config=True)], Changes(changed=("a",))),
        ([entry("a")], [entry("a", problem="twice")], Changes(changed=("a",))),
        ([entry("a"), entry("b")], [entry("b", 2), entry("c")], Changes(("c",), ("b",), ("a",))),
    ],
)
def test_two_walks_show_what_happened(before: list[ModelEntry], after: list[ModelEntry], expected: Changes) -> None:
    assert compare(listing(*before), listing(*after)) == expected


def test_no_changes_are_false() -> None:
    assert not Changes()
    assert Changes(vanished=("a",))


def test_nothing_is_known_of_a_repository_that_cannot_be_read_now() -> None:
    away = RepositoryListing({}, unreadable={HERE: "it does not exist"})
    assert compare(listing(entry("a")), away) == Changes()


A, B, CHANGED = entry("a"), entry("b"), entry("a", time_ns=2)


@pytest.mark.parametrize(
    ("start", "looks", "told"),
    [
        # Each look: the models that it shows, at which second.
        ([], [([A], 0)], [Changes()]),
        ([], [([A], 0), ([A], 0.9), ([A], 1)], [Changes(), Changes(), Changes(appeared=("a",))]),
        ([], [([A], 0), ([CHANGED], 0.9), ([CHANGED], 1.8), ([CHANGED], 2)], [*[Changes()] * 3, Changes(("a",))]),
        ([A], [([], 0), ([A], 0.5), ([A], 5)], [Changes()] * 3),  # gone for an instant only
        ([A], [([], 0), ([], 1)], [Changes(), Changes(vanished=("a",))]),
        (
            [A],
            [([], 0), ([CHANGED], 0.5), ([CHANGED], 1.5)],
            [Changes(), Changes(), Changes(changed=("a",))],
        ),  # swapped
        ([A], [([CHANGED], 0), ([A], 2)], [Changes(), Changes()]),  # back before it rested
        ([A], [([CHANGED], 0), ([CHANGED], 1), ([CHANGED], 9)], [Changes(), Changes(changed=("a",)), Changes()]),
        # One that never rests holds up no other.
        ([A], [([CHANGED, B], 0), ([entry("a", 3), B], 1)], [Changes(), Changes(appeared=("b",))]),
    ],
)
def test_a_change_is_told_once_and_when_it_has_rested(
    start: list[ModelEntry], looks: list[tuple[list[ModelEntry], float]], told: list[Changes]
) -> None:
    follower = RepositoryFollower(quiet_s=1)
    follower.start_from(listing(*start))
    assert [follower.follow(listing(*models), at_s) for models, at_s in looks] == told


def test_a_follower_waits_while_something_does_not_rest() -> None:
    follower = RepositoryFollower(quiet_s=1)
    waits = []
    for models, at_s in (([], 0.0), ([A], 1.0), ([A], 1.5), ([A], 2.0)):
        follower.follow(listing(*models), at_s)
        waits.append(follower.waits)
    assert waits == [False, True, True, False]


def test_without_a_quiet_time_a_change_is_told_at_once() -> None:
    assert RepositoryFollower().follow(listing(A), 0) == Changes(appeared=("a",))


def test_a_model_that_is_doubted_is_told_once_more_although_it_did_not_change() -> None:
    follower = RepositoryFollower()
    follower.start_from(listing(A))
    follower.doubt("a")
    assert [follower.follow(listing(A), at_s) for at_s in (1, 2)] == [Changes(changed=("a",)), Changes()]
