"""How failed loads are told, in the index and in the log."""

import pytest

from ortolan.core.load_failure import LoadFailure, Origin, without_name
from ortolan.errors import Incomplete, InvalidArgument


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("model 'pre': its file is damaged", "its file is damaged"),
        ("model 'pre' version 2 has no file 'model.onnx'", "it has no file 'model.onnx'"),
        ("model 'pre' must specify its inputs", "it must specify its inputs"),
        ("model 'prefix': no", "model 'prefix': no"),
        ("ONNX Runtime cannot load model 'pre': no", "ONNX Runtime cannot load model 'pre': no"),
    ],
)
def test_a_line_that_begins_with_a_name_does_not_say_it_again(message: str, told: str) -> None:
    assert without_name("pre", message) == told


@pytest.mark.parametrize(
    ("failure", "passing", "reason"),
    [
        (LoadFailure(InvalidArgument("no")), False, "no"),
        (LoadFailure(InvalidArgument("no"), patience_s=1), False, "no"),
        (LoadFailure(Incomplete("cut")), False, "cut"),  # nobody would notice that it changes
        (LoadFailure(Incomplete("cut"), patience_s=1), True, "cut"),
        (LoadFailure(InvalidArgument("no"), serves_on=True), False, "the newer files failed to load: no"),
        (
            LoadFailure(InvalidArgument("no"), Origin.SENT_CONFIG, serves_on=True),
            False,
            "the configuration that a client sent failed to load: no",
        ),
        (
            LoadFailure(InvalidArgument("no"), Origin.SENT_FILES, serves_on=True),
            False,
            "the files that a client sent failed to load: no",
        ),
    ],
)
def test_a_failure_is_told_by_what_was_loaded_and_passes_only_where_files_may_still_come(
    failure: LoadFailure, passing: bool, reason: str
) -> None:
    assert (failure.is_passing, failure.reason) == (passing, reason)
    assert failure.passing_reason == f"incomplete, trying again when it changes: {failure.reason}"
