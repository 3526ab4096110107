from pathlib import Path

import pytest

from ortolan.repository.changes import Changes, compare
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
