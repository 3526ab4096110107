import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.repository.sources.mirror_plan import empty_versions, plan, usable
from ortolan.repository.sources.remote_file import Listing, RemoteFile


def files(**tags: str) -> list[RemoteFile]:
    return [RemoteFile(path.replace("__", "/"), path, tag) for path, tag in tags.items()]


REMOTE = files(a__config="1", a__1__model="2", b__1__model="3", top="4")


@pytest.mark.parametrize(
    ("present", "chosen", "expected"),
    [
        ({}, None, {"": ["top"], "a": ["a/1/model", "a/config"], "b": ["b/1/model"]}),
        ({"top": "4", "a/config": "1", "a/1/model": "2", "b/1/model": "3"}, None, {}),
        ({"top": "4", "a/config": "0", "a/1/model": "2", "b/1/model": "3"}, None, {"a": ["a/config"]}),
        ({"top": "4", "a/config": "", "a/1/model": "2", "b/1/model": "3"}, None, {"a": ["a/config"]}),  # damaged
        ({"top": "4"}, {"b"}, {"b": ["b/1/model"]}),
        ({}, {"b"}, {"": ["top"], "b": ["b/1/model"]}),  # the root's own files always
        ({"top": "4"}, {"c"}, {}),
        ({"top": "4"}, set(), {}),
    ],
)
def test_what_differs_is_fetched_by_model(
    present: dict[str, str], chosen: set[str] | None, expected: dict[str, list[str]]
) -> None:
    groups = plan(REMOTE, present, chosen).groups
    assert {group.name: [file.path for file in group.fetch] for group in groups} == expected


@pytest.mark.parametrize(
    ("present", "chosen", "expected"),
    [
        ({"a/2/model": "9"}, None, {"a": ("a/2/model",)}),
        ({"gone/1/model": "9"}, None, {"gone": ("gone/1/model",)}),
        ({"gone/1/model": "9"}, {"a"}, {"gone": ("gone/1/model",)}),  # there is nothing of it to be chosen any more
        ({"b/2/model": "9"}, {"a"}, {}),  # b is not to be touched now
    ],
)
def test_what_is_gone_is_removed(
    present: dict[str, str], chosen: set[str] | None, expected: dict[str, tuple[str, ...]]
) -> None:
    groups = plan(REMOTE, present, chosen).groups
    assert {group.name: group.remove for group in groups if group.remove} == expected


def test_of_models_that_are_not_chosen_it_is_known_which_versions_there_are() -> None:
    assert plan(REMOTE, {}, {"b"}).placeholders == ("a/1",)
    assert plan(REMOTE, {}, None).placeholders == ()


@pytest.mark.parametrize(
    ("paths", "directories", "expected"),
    [
        (["ens/config.pbtxt"], ["ens/1"], ["ens/1"]),
        (["ens/config.pbtxt"], ["ens", "ens/1", "ens/3", "ens/x"], ["ens/1", "ens/3"]),
        (["ens/configs/gpu.pbtxt", "ens/2/.gitkeep"], [], ["ens/2"]),
        (["config.pbtxt"], ["2"], ["2"]),  # the root is the ensemble
        (["ens/config.pbtxt", ".git/1/x"], ["ens/1/scratch"], ["ens/1"]),
        (["m/config.pbtxt", "m/1/model.onnx"], ["m/2", "m/empty"], []),  # a version that is about to come
        (["config.pbtxt", "1/model.onnx"], ["2"], []),
        (["m/labels.txt"], ["m/1"], []),  # no configuration, nothing to serve
        (["a/b/config.pbtxt"], ["a/b/1"], []),  # too deep for a model
        (["ens/config.pbtxt", "../1/.x"], ["../1", "1"], []),
    ],
)
def test_markers_are_versions_of_what_has_a_configuration_and_no_other_version(
    paths: list[str], directories: list[str], expected: list[str]
) -> None:
    listing = Listing([RemoteFile(path, path, "1", 1) for path in paths], directories=directories)
    found = empty_versions(listing, usable(listing.files)[0])
    assert found == expected
    assert plan(usable(listing.files)[0], {}, None, found).placeholders == tuple(expected)


def test_an_ensemble_without_a_version_is_known_before_it_is_chosen() -> None:
    remote = files(**{"ens/config.pbtxt": "1", "m/1/model.onnx": "2", "docs/readme.md": "3"})
    assert plan(remote, {}, set()).placeholders == ("ens/1", "m/1")
    assert plan(remote, {}, {"ens"}).placeholders == ("m/1",)
    assert plan(remote, {}, set(), ["ens/2"]).placeholders == ("ens/2", "m/1")


@pytest.mark.parametrize(
    "root", [files(**{"1__model": "1", "2__model": "2"}), files(**{"config.pbtxt": "", "a__b": ""})]
)
def test_a_root_that_is_itself_a_model_changes_as_a_whole_and_is_always_fetched(root: list[RemoteFile]) -> None:
    (group,) = plan(root, {}, {"other"}).groups
    assert (group.name, len(group.fetch)) == ("", 2)


def test_a_file_that_takes_a_directorys_place_changes_together_with_it() -> None:
    (group,) = plan(files(a="1", b__m="2"), {"a/m": "9", "b": "9"}).groups
    assert [file.path for file in group.fetch] == ["a", "b/m"]
    assert group.remove == ("b", "a/m")


def test_a_file_without_a_tag_is_fetched_each_time() -> None:
    (group,) = plan(files(a=""), {"a": ""}).groups
    assert [file.path for file in group.fetch] == ["a"]


@pytest.mark.parametrize(
    "path",
    [
        "..", "../x", "a/../../x", "a/..", "/etc/passwd", "a//b", "a/./b", "", "a\\..\\b", "..\\x", "a\nb", "a\0b",
        "C:/x", "a/C:x", "x" * 300, "/".join(["abcdefg"] * 200), "a\udcff",
    ],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_left_out_and_told(path: str) -> None:
    kept, warnings = usable([RemoteFile(path, path, "1"), RemoteFile("fine", "fine", "1")])
    assert [file.path for file in kept] == ["fine"]
    assert len(warnings) == 1
    assert "\n" not in warnings[0]


@pytest.mark.parametrize("path", [".git/config", "a/.hidden", ".x"])
def test_hidden_files_are_left_out_silently(path: str) -> None:
    assert usable([RemoteFile(path, path, "1")]) == ([], [])


def test_empty_objects_that_stand_for_directories_are_left_out_silently() -> None:
    listed = [RemoteFile("a", "a/", "1", 0), RemoteFile("a/1", "a/1/", "1", 0), RemoteFile("a/1/m", "a/1/m", "1", 5)]
    kept, warnings = usable(listed)
    assert ([file.path for file in kept], warnings) == (["a/1/m"], [])


def test_a_file_that_is_a_directory_as_well_is_left_out_and_told() -> None:
    kept, warnings = usable([RemoteFile("a", "a", "1", 3), RemoteFile("a/m", "a/m", "1", 5)])
    assert [file.path for file in kept] == ["a/m"]
    assert warnings == ["'a' is left out: it is a directory as well"]


def test_of_two_files_with_one_name_the_first_counts() -> None:
    kept, warnings = usable([RemoteFile("a", "1", "1"), RemoteFile("a", "2", "2")])
    assert [file.key for file in kept] == ["1"]
    assert warnings == ["'a' is there twice: the first one counts"]


@given(st.lists(st.text(alphabet="ab./\\:\0\n", max_size=8)))
def test_no_usable_name_leads_out_of_the_directory(paths: list[str]) -> None:
    for file in usable([RemoteFile(path, path, "1", 1) for path in paths])[0]:
        parts = file.path.split("/")
        assert not {"", ".", ".."} & {*parts}
        assert not {"\\", "\0", ":"} & {*file.path}
