import os
from pathlib import Path

import pytest

from ortolan.repository.ensemble_sign import is_of_ensemble


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('platform: "ensemble"', True),
        ("max_batch_size: 8 platform :'ensemble' input {", True),  # with a mistake further on
        ("ensemble_scheduling { step { } }", True),
        ('platform: "onnxruntime_onnx"', False),
        ('# no platform: "ensemble" here\nmax_batch_size: 8', False),
        ('name: "ensemble"', False),
        ("", False),
    ],
)
def test_a_configuration_says_that_it_is_an_ensembles(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "config.pbtxt").write_text(text)
    assert is_of_ensemble(tmp_path / "config.pbtxt") is expected


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert not is_of_ensemble(tmp_path / "config.pbtxt")
    os.mkfifo(tmp_path / "config.pbtxt")
    assert not is_of_ensemble(tmp_path / "config.pbtxt")
