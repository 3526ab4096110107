from collections.abc import Callable
from pathlib import Path

import ensembles
import onnx_models
import pytest

from ortolan.repository.directory import RepositoryListing
from ortolan.repository.placed_models import placed_entries, with_placed


def _repository(root: Path) -> None:
    onnx_models.save_version(root, "inner", onnx_models.doubler(), 3)


def _ensemble(root: Path) -> None:
    onnx_models.save_version(root, "part", onnx_models.doubler())
    ensembles.save_like_a_model(root, "whole", "part")


def _model(root: Path) -> None:
    onnx_models.save(onnx_models.doubler(), root / "3" / "model.onnx")
    (root / "config.pbtxt").write_text('name: "inner"')


def _any_file(root: Path) -> None:
    onnx_models.save(onnx_models.doubler(), root / "inner.onnx")


def _named_file(root: Path) -> None:
    onnx_models.save(onnx_models.doubler(), root / "model.onnx")


@pytest.mark.parametrize(
    ("layout", "names", "own_names"),
    [
        (_repository, ["given"], ["inner"]),
        (_ensemble, ["given", "given::part"], ["whole", "part"]),
        (_model, ["given"], ["inner"]),
        (_any_file, ["given"], ["inner"]),
        (_named_file, ["given"], [""]),
    ],
)
def test_each_layout_is_served_by_the_name_that_it_was_given(
    layout: Callable[[Path], None], names: list[str], own_names: list[str], tmp_path: Path
) -> None:
    layout(tmp_path)
    found = placed_entries("given", tmp_path)
    assert [entry.name for entry in found] == names
    assert [entry.own_name for entry in found] == own_names
    assert {entry.namespace for entry in found} == {"given"}
    assert {version.model_name for version in found[0].versions} == {"given"}


def _two(root: Path) -> None:
    for name in ("a", "b"):
        onnx_models.save_version(root, name, onnx_models.doubler())


def _nothing(root: Path) -> None:
    root.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        (_two, "its directory has 2 models, of which 0 are ensembles"),
        (_nothing, "there is no model in its directory"),
        (Path.rmdir, "its directory is not there, or cannot be read"),
    ],
)
def test_what_is_no_model_is_one_with_a_problem_that_names_no_path(
    layout: Callable[[Path], None], problem: str, tmp_path: Path
) -> None:
    root = tmp_path / "place"
    root.mkdir()
    layout(root)
    (found,) = placed_entries("given", root)
    assert (found.name, problem in found.problem, str(tmp_path) in found.problem) == ("given", True, False)


def test_they_stand_beside_those_of_the_repository(tmp_path: Path) -> None:
    _named_file(tmp_path)
    listing = RepositoryListing({entry.name: entry for entry in placed_entries("before", tmp_path)})
    assert with_placed(listing, {}) is listing
    assert [*with_placed(listing, {"after": tmp_path}).models] == ["before", "after"]
