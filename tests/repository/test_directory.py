import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ortolan.errors import InvalidArgument, StartupError
from ortolan.repository.changes import compare
from ortolan.repository.directory import VersionEntry, model_file, survey, walk


def put(root: Path, *names: str) -> Path:
    """Files of these names below ``root``; a name that ends in a slash is an empty directory."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    root.mkdir(parents=True, exist_ok=True)
    return root


Found = dict[str, tuple[int, ...]]


@pytest.mark.parametrize("name", ["circle", "x" * 300])
def test_a_root_that_cannot_even_be_looked_at_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(StartupError, match=f"the model repository '{tmp_path / name}' "):
        walk([tmp_path / name])


def found(root: Path, model_name: str = "") -> Found:
    models = walk([root], model_name).models
    return {name: tuple(version.number for version in entry.versions) for name, entry in models.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], {}),
        (["b/1/model.onnx", "a/2/model.onnx", "a/10/model.onnx"], {"a": (2, 10), "b": (1,)}),  # as Triton
        (["a/config.pbtxt", "a/1/model.onnx"], {"a": (1,)}),
        (["a/1/model.onnx/model.onnx", "a/1/model.onnx/weights.bin"], {"a": (1,)}),  # weights beside the model
        (["a/1/other.onnx"], {"a": (1,)}),  # default_model_filename may name it
        (["a/config.pbtxt"], {"a": ()}),  # a model without a version is listed with its problem
        (["a/v1/model.onnx"], {"a": ()}),
        (["a/1/"], {"a": (1,)}),  # about to be copied
        (["a/model.onnx"], {"a": (1,)}),  # a model directory without version directories
        (["1/1/model.onnx", "2/1/model.onnx"], {"1": (1,), "2": (1,)}),  # models whose names are numbers
        (["x.onnx", "y.onnx"], {"x": (1,), "y": (1,)}),  # loose files
        (["x.onnx", "a/1/model.onnx"], {"a": (1,), "x": (1,)}),
        (["model.onnx", "other.onnx"], {"model": (1,), "other": (1,)}),
        (["model.onnx", "a/1/model.onnx"], {"a": (1,), "model": (1,)}),
        (["config.pbtxt", "a/1/model.onnx", "b/1/model.onnx"], {"a": (1,), "b": (1,)}),  # a stray file at the top
        ([".git/1/model.onnx", ".x.onnx", "a/1/model.onnx", "a/.2/model.onnx"], {"a": (1,)}),  # hidden
        (["lost+found/", "a/1/model.onnx"], {"a": (1,)}),
        (["docs/readme.md", "empty/", "a/1/model.onnx"], {"a": (1,)}),
        (["README.md", "a/1/model.onnx"], {"a": (1,)}),
    ],
)
def test_a_repository_lists_its_models(tmp_path: Path, names: list[str], expected: Found) -> None:
    assert found(put(tmp_path / "repository", *names)) == expected


@pytest.mark.parametrize("others", [(), ("e/.gitkeep",), ("e/labels.txt", "e/test_data_set_0/output_0.pb")])
def test_an_ensemble_needs_no_version_directory(tmp_path: Path, others: tuple[str, ...]) -> None:
    put(tmp_path / "repository", "e/", "m/1/model.onnx", *others)
    (tmp_path / "repository" / "e" / "config.pbtxt").write_text('platform: "ensemble"')
    entry = walk([tmp_path / "repository"]).models["e"]
    assert [(version.number, version.directory) for version in entry.versions] == [(1, entry.directory)]
    assert entry.problem == ""
    assert found(tmp_path / "repository" / "e") == {"e": (1,)}


@pytest.mark.parametrize("there", ["e/3/", "e/3/.gitkeep"])
def test_a_version_directory_of_an_ensemble_counts_where_it_is(tmp_path: Path, there: str) -> None:
    put(tmp_path / "repository", "e/", there)
    (tmp_path / "repository" / "e" / "config.pbtxt").write_text("ensemble_scheduling { }")
    assert found(tmp_path / "repository") == {"e": (3,)}


@pytest.mark.parametrize(
    "names",
    [
        ["1/model.onnx"],
        ["config.pbtxt", "1/model.onnx", "warmup/x", "configs/gpu.pbtxt"],
        ["model.onnx"],
        ["model.onnx", "model.onnx_data", "README.md", "src/main.py"],
        ["model.onnx/model.onnx", "model.onnx/weights.bin"],
        ["config.pbtxt", "model.onnx"],
        ["config.pbtxt", "1/model.onnx", "1/2/model.onnx"],  # a version with a directory that looks like one
    ],
)
def test_a_root_may_be_one_model(tmp_path: Path, names: list[str]) -> None:
    root = put(tmp_path / "digits", *names)
    assert found(root) == {"digits": (1,)}
    assert found(root, model_name="renamed") == {"renamed": (1,)}


def test_a_model_with_a_configuration_is_no_repository_of_its_versions(tmp_path: Path) -> None:
    names = ["config.pbtxt", "1/model.onnx", "2/1/model.onnx"]
    assert found(put(tmp_path / "m", *names)) == {"m": (1, 2)}
    assert found(tmp_path) == {"m": (1, 2)}
    assert found(put(tmp_path / "bare", *names[1:])) == {"1": (1,), "2": (1,)}


def test_a_root_may_be_a_bare_file(tmp_path: Path) -> None:
    root = put(tmp_path, "digits.onnx", "other.onnx") / "digits.onnx"
    assert found(root) == {"digits": (1,)}
    entry = walk([root], "renamed").models["renamed"]
    assert model_file(entry.versions[0], "model.onnx") == root
    assert model_file(entry.versions[0], "digits.onnx") == root
    with pytest.raises(InvalidArgument, match=r"says 'other.onnx', but its only version is 'digits.onnx'"):
        model_file(entry.versions[0], "other.onnx")


def test_a_relative_root_has_the_name_of_its_directory(tmp_path: Path) -> None:
    root = put(tmp_path / "digits", "1/model.onnx")
    assert found(root / "1" / "..") == {"digits": (1,)}


@pytest.mark.parametrize("name", ["missing", "notes.txt", "missing.onnx"])
def test_a_root_that_is_no_repository_is_named(tmp_path: Path, name: str) -> None:
    put(tmp_path, "notes.txt")
    with pytest.raises(StartupError, match=name):
        walk([tmp_path / name])


def test_an_empty_repository_is_served_with_a_warning(tmp_path: Path) -> None:
    listing = walk([tmp_path])
    assert not listing.models
    assert "is empty" in listing.warnings[0]


@pytest.mark.parametrize(
    ("directory", "ignored"),
    [
        ("01", "'01' has a leading zero"),
        ("0", "'0' is not positive"),
        ("abc", "'abc' is not a number"),
        ("v2", "'v2' is not a number"),
        ("1.5", "'1.5' is not a number"),
        ("-1", "'-1' is not a number"),
        ("٣", "'٣' is not a number"),  # a digit to Unicode
        ("99999999999999999999", "'99999999999999999999' is too large"),
    ],
)
def test_what_only_looks_like_a_version_is_ignored_with_a_reason(tmp_path: Path, directory: str, ignored: str) -> None:
    root = put(tmp_path, "a/1/model.onnx", f"a/{directory}/model.onnx", "a/warmup/0", "a/assets/notes.txt")
    listing = walk([root])
    assert listing.models["a"].ignored == (ignored,)
    assert [version.number for version in listing.models["a"].versions] == [1]
    assert listing.warnings == (f"model 'a': {ignored}, ignored",)


def test_a_model_without_versions_says_what_was_expected_and_ignored(tmp_path: Path) -> None:
    entry = walk([put(tmp_path, "a/config.pbtxt", "a/v1/model.onnx")]).models["a"]
    assert "1/model.onnx" in entry.problem
    assert "'v1' is not a number" in entry.problem


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["a.onnx"],
            "; 'a.onnx' is in none: move it to 1/model.onnx, or to 1/a.onnx and write "
            'default_model_filename: "a.onnx"',
        ),
        (["a.onnx", "b.onnx"], "; 'a.onnx', 'b.onnx' are in none: move one of them to 1/model.onnx"),
        (["a.onnx", "v1/model.onnx"], "'a.onnx' is in none: move it to 1/model.onnx"),
    ],
)
def test_a_model_file_in_no_version_is_said_to_be_there_and_where_it_goes(
    tmp_path: Path, names: list[str], said: str
) -> None:
    entry = walk([put(tmp_path, "m/config.pbtxt", *(f"m/{name}" for name in names))]).models["m"]
    assert said in entry.problem


def test_a_model_in_two_repositories_is_served_from_neither(tmp_path: Path) -> None:
    first, second = put(tmp_path / "x", "a/1/model.onnx", "b/1/model.onnx"), put(tmp_path / "y", "a/1/model.onnx")
    models = walk([first, second]).models
    said = "model appears in two or more repositories, 'x' and 'y': remove it from all but one, or serve x::a and y::a"
    assert models["a"].problem.startswith(said)
    assert models["b"].problem == ""
    assert list(models) == ["a", "b"]


def test_with_namespaces_models_of_one_name_have_their_repositorys_before_it(tmp_path: Path) -> None:
    first, second = put(tmp_path / "x", "a/1/model.onnx", "b/1/model.onnx"), put(tmp_path / "y", "a/1/model.onnx")
    listing = walk([first, second], namespacing=True)
    assert list(listing.models) == ["b", "x::a", "y::a"]
    assert listing.ambiguous == {"a": ("x::a", "y::a")}
    entry = listing.models["x::a"]
    assert (entry.own_name, entry.problem, entry.versions[0].model_name) == ("a", "", "x::a")


def test_repositories_of_one_name_cannot_be_told_apart_by_it(tmp_path: Path) -> None:
    roots = [put(tmp_path / each / "models", "a/1/model.onnx") for each in "xy"]
    problem = walk(roots, namespacing=True).models["a"].problem
    assert problem == "model appears in two or more repositories, 'models' and 'models': remove it from all but one"


def test_a_survey_tells_what_is_not_there_and_lists_the_rest(tmp_path: Path) -> None:
    there, nowhere = put(tmp_path / "x", "a/1/model.onnx"), tmp_path / "nowhere"
    listing = survey([nowhere, there])
    assert list(listing.models) == ["a"]
    assert "does not exist" in listing.unreadable[nowhere]


def test_a_repository_named_twice_counts_once(tmp_path: Path) -> None:
    root = put(tmp_path, "a/1/model.onnx", "b/config.pbtxt")
    assert walk([root, root / "a" / ".."]).models["a"].problem == ""


def test_a_file_and_a_directory_of_one_name_are_a_problem(tmp_path: Path) -> None:
    assert "twice" in walk([put(tmp_path, "a/1/model.onnx", "a.onnx")]).models["a"].problem


def test_a_name_for_a_whole_repository_is_not_used(tmp_path: Path) -> None:
    listing = walk([put(tmp_path, "a/1/model.onnx", "b/1/model.onnx")], "renamed")
    assert list(listing.models) == ["a", "b"]
    assert "'renamed' is not used" in listing.warnings[0]
    assert listing.aliases == {}


@pytest.mark.parametrize(
    ("files", "aliases"),
    [
        (["a/1/model.onnx"], {"renamed": "a"}),
        (["renamed/1/model.onnx"], {}),
        (["1/model.onnx"], {}),  # the model's own name
        ([], {}),
    ],
)
def test_the_only_model_of_a_repository_has_a_further_name(
    files: list[str], aliases: dict[str, str], tmp_path: Path
) -> None:
    listing = walk([put(tmp_path, *files)], "renamed")
    assert listing.aliases == aliases
    assert bool(listing.warnings) is not bool(listing.models)


@pytest.mark.parametrize(
    ("names", "config_name", "expected"),
    [
        (["a/config.pbtxt"], "", "config.pbtxt"),
        (["a/config.pbtxt", "a/configs/gpu.pbtxt"], "", "config.pbtxt"),
        (["a/config.pbtxt", "a/configs/gpu.pbtxt"], "gpu", "configs/gpu.pbtxt"),
        (["a/config.pbtxt"], "gpu", "config.pbtxt"),  # falls back
        (["a/configs/gpu.pbtxt"], "cpu", None),
        (["a/config.pbtxt/"], "", "config.pbtxt"),  # a directory: whoever reads it says so
    ],
)
def test_the_named_configuration_is_preferred(
    tmp_path: Path, names: list[str], config_name: str, expected: str | None
) -> None:
    entry = walk([put(tmp_path, "a/1/model.onnx", *names)], config_name=config_name).models["a"]
    assert entry.config_path == (None if expected is None else tmp_path / "a" / expected)


def test_a_configuration_name_cannot_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="plain file name"):
        walk([tmp_path], config_name="../secret")


def test_a_name_that_is_not_utf8_is_skipped_with_a_warning(tmp_path: Path) -> None:
    put(tmp_path, "a/1/model.onnx")
    try:
        os.makedirs(os.fsencode(tmp_path) + b"/\xff/1")
    except OSError:
        pytest.skip("this file system has no such names")
    listing = walk([tmp_path])
    assert list(listing.models) == ["a"]
    assert "not UTF-8" in listing.warnings[0]


def test_symbolic_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path / "real", "v1/model.onnx")
    root = put(tmp_path / "repository", "a/")
    (root / "a" / "1").symlink_to(tmp_path / "real" / "v1")
    (root / "a" / "loop").symlink_to(root)
    entry = walk([root]).models["a"]
    assert ("1/model.onnx", len("v1/model.onnx")) in [fact[:2] for fact in entry.fingerprint]
    assert model_file(entry.versions[0], "model.onnx").is_file()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: os.utime(model / "1" / "model.onnx", ns=(1, 1)),
        lambda model: (model / "1" / "model.onnx").write_text("longer than it was"),
        lambda model: (model / "1" / "weights.bin").write_text(""),
        lambda model: (model / "1" / "deep" / "er").mkdir(parents=True) or (model / "1/deep/er/file").write_text("x"),
        lambda model: (model / "config.pbtxt").write_text(""),
        lambda model: (model / "2").mkdir(),
        lambda model: (model / "1" / "model.onnx").unlink(),
    ],
)
def test_every_change_to_a_model_is_seen(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = put(tmp_path, "a/1/model.onnx", "b/1/model.onnx")
    before = walk([root])
    assert not compare(before, walk([root]))
    change(root / "a")
    assert compare(before, walk([root])).changed == ("a",)


def test_only_its_own_files_change_a_loose_model(tmp_path: Path) -> None:
    root = put(tmp_path, "x.onnx", "x.onnx.data", "y.onnx", "log.txt")
    before = walk([root])
    put(root, "log.txt", "other.txt")
    assert not compare(before, walk([root]))
    (root / "x.onnx.data").write_text("other weights")
    assert compare(before, walk([root])).changed == ("x",)


@pytest.mark.parametrize(
    ("names", "filename", "expected"),
    [
        (["model.onnx"], "model.onnx", "model.onnx"),
        (["other.onnx"], "other.onnx", "other.onnx"),
        (["sub/other.onnx"], "sub/other.onnx", "sub/other.onnx"),
        (["model.onnx/model.onnx", "model.onnx/other.onnx"], "model.onnx", "model.onnx/model.onnx"),
        (["model.onnx/digits.onnx", "model.onnx/w.bin"], "model.onnx", "model.onnx/digits.onnx"),
    ],
)
def test_the_file_to_load_is_found(tmp_path: Path, names: list[str], filename: str, expected: str) -> None:
    put(tmp_path / "1", *names)
    assert model_file(VersionEntry("m", 1, tmp_path / "1"), filename) == tmp_path / "1" / expected


@pytest.mark.parametrize(
    ("names", "filename", "said"),
    [
        (["digits.onnx"], "model.onnx", ["model 'm' version 1", "'model.onnx'", "'digits.onnx'"]),
        ([], "model.onnx", ["nothing"]),
        (["model.onnx/a.onnx", "model.onnx/b.onnx"], "model.onnx", ["'model.onnx/model.onnx'", "'a.onnx', 'b.onnx'"]),
        (["model.onnx/weights.bin"], "model.onnx", ["'weights.bin'"]),
        (["x"], "../1/x", ["default_model_filename", "inside"]),
        (["x"], "/etc/passwd", ["default_model_filename"]),
        (["x"], "a\\..\\x", ["default_model_filename"]),
        (["x"], "a\0b", ["default_model_filename"]),
        (["x"], "", ["default_model_filename"]),
    ],
)
def test_a_file_that_cannot_be_loaded_is_explained_without_a_path(
    tmp_path: Path, names: list[str], filename: str, said: list[str]
) -> None:
    put(tmp_path / "1", *names)
    with pytest.raises(InvalidArgument) as refused:
        model_file(VersionEntry("m", 1, tmp_path / "1"), filename)
    assert all(words in refused.value.message for words in said), refused.value.message
    assert str(tmp_path) not in refused.value.message


def test_a_version_that_went_away_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="there is nothing instead"):
        model_file(VersionEntry("m", 1, tmp_path / "gone"), "model.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_links_that_make_endless_ways_are_a_problem_of_their_model_only(tmp_path: Path) -> None:
    """Thirty directories with two links to the next each: a thousand million ways, and no circle."""
    for number in range(30):
        (tmp_path / "maze" / str(number)).mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / "maze" / str(number) / name).symlink_to(tmp_path / "maze" / str(number + 1))
    for model in ("bad", "good"):
        (tmp_path / "repository" / model / "1").mkdir(parents=True)
        (tmp_path / "repository" / model / "1" / "model.onnx").touch()
    (tmp_path / "repository" / "bad" / "x").symlink_to(tmp_path / "maze" / "0")
    models = walk([tmp_path / "repository"]).models
    assert models["good"].problem == ""
    assert "more than 100000 files, 2048 directories" in models["bad"].problem


@pytest.mark.skipif(sys.platform == "win32", reason="paths are shorter there")
@pytest.mark.parametrize("directory", ["m", "m.onnx"])
def test_directories_without_end_are_a_problem_of_their_model_only(tmp_path: Path, directory: str) -> None:
    for model in (directory, "good"):
        (tmp_path / model / "1").mkdir(parents=True)
        (tmp_path / model / "1" / "model.onnx").touch()
    os.makedirs((tmp_path / directory).joinpath(*"d" * 100))
    models = walk([tmp_path]).models
    assert models["good"].problem == ""
    assert "levels" in models["m"].problem
