"""Which names mean which model, while repositories come to have models of one name and lose them again."""

from pathlib import Path

import onnx_models

from ortolan.core.repository_view import RepositoryView
from ortolan.repository.directory import survey


async def test_a_model_is_known_by_its_former_name_until_the_name_is_another_models(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for root, model in ((first, "m"), (second, "other")):
        onnx_models.save_version(root, model, onnx_models.identity())
    view = RepositoryView(lambda: survey([first, second], namespacing=True), namespacing=True)
    await view.look()
    assert view.former_name("a::m") == ""
    added = onnx_models.save_version(second, "m", onnx_models.identity())
    await view.look()
    await view.look()
    assert (view.former_name("a::m"), view.former_name("b::m")) == ("m", "")
    # Of the two only the other is left, and then both are there again: the plain name was the other's meanwhile.
    (first / "m").rename(first / ".m")
    await view.look()
    assert (view.former_name("a::m"), view.former_name("b::m")) == ("", "")
    (first / ".m").rename(first / "m")
    await view.look()
    assert (view.former_name("a::m"), view.former_name("b::m")) == ("", "m")
    assert added.exists()
