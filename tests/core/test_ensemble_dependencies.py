"""What to look at again when a model changes, what nobody needs any more, and circles."""

from collections.abc import Mapping

import pytest

from ortolan.core.ensemble_dependencies import circle, dependents, missing_step, unneeded
from ortolan.repository.model_config import EnsembleStep, ModelConfig


def uses(text: str) -> Mapping[str, list[str]]:
    """``"e: a b; f: e"``: what each ensemble needs."""
    parts = [part.split(":") for part in text.split(";") if part.strip()]
    return {name.strip(): needed.split() for name, needed in parts}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a", "", ""),
        ("a", "e: a b", "e"),
        ("b", "e: a b; f: c", "e"),
        ("a", "z: a; e: z", "z e"),  # first what the other needs
        ("a", "top: left right; left: a; right: a left", "left right top"),
        ("a", "e: f a; f: e", "e f"),  # a circle has no order, and an end
        ("e", "e: e", ""),
    ],
)
def test_ensembles_are_looked_at_again_after_those_that_they_need(name: str, text: str, expected: str) -> None:
    assert dependents(name, uses(text)) == tuple(expected.split())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("e", "e: a b; f: e", ""),
        ("e", "e: e", "e e"),
        ("e", "e: f; f: g a; g: e", "e f g e"),
        ("g", "e: f; f: g a; g: e", "g e f g"),
        ("e", "e: f; f: g; g: f", ""),  # above a circle, not in it
    ],
)
def test_a_circle_is_told_from_end_to_end(name: str, text: str, expected: str) -> None:
    assert circle(name, uses(text)) == tuple(expected.split())


@pytest.mark.parametrize(
    ("text", "asked", "loaded", "expected"),
    [
        ("e: a b", "e", "e", "a b"),
        ("e: a b", "e a", "e", "b"),  # somebody asked for a
        ("e: a b; f: b", "e f", "e f", "a"),  # another needs b
        ("e: a b; f: b", "e f", "e", "a b"),  # which is not loaded
        ("e: f; f: a", "e", "e f", "a f"),  # an ensemble goes with what it needs
        ("e: f; f: a", "e f", "e f", ""),
        ("e: f b; f: a; g: f", "e g", "e f g", "b"),
        ("f: b", "e", "e f", ""),
    ],
)
def test_models_go_with_the_last_ensemble_that_needs_them(text: str, asked: str, loaded: str, expected: str) -> None:
    assert unneeded("e", uses(text), asked.split(), loaded.split()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("version", "loaded", "said"),
    [
        (-1, {"a": [1, 3]}, ""),
        (3, {"a": [1, 3]}, ""),
        (-1, {}, "ensemble 'e' depends on 'a' which has no loaded version"),
        (-1, {"a": []}, "ensemble 'e' depends on 'a' which has no loaded version"),
        (2, {"a": [1, 3]}, "ensemble 'e' depends on 'a' whose required version 2 is not loaded"),
    ],
)
def test_what_is_missing_is_said(version: int, loaded: dict[str, list[int]], said: str) -> None:
    config = ModelConfig("e", "ensemble", ensemble_steps=(EnsembleStep("a", version),))
    assert missing_step(config, ["a"], loaded) == said
