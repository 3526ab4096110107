from collections.abc import Collection, Sequence

import pytest

from ortolan.core.default_model import default_model
from ortolan.errors import InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("names", "used", "model"),
    [
        (["a"], [], "a"),
        (["a", "whole"], ["a"], "whole"),
        (["a"], ["a"], "a"),  # its ensemble is gone
    ],
)
def test_the_only_model_is_meant_and_ensembles_before_their_parts(
    names: Sequence[str], used: Collection[str], model: str
) -> None:
    assert default_model(names, used) == model


def test_of_several_none_is_meant_and_none_is_named() -> None:
    with pytest.raises(InvalidArgument, match="2 models are served, and the request names none") as refused:
        default_model(["secret", "hidden"], [])
    assert "secret" not in str(refused.value)


def test_without_models_there_is_none() -> None:
    with pytest.raises(NotFound):
        default_model([], [])
