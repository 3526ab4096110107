import pytest

from ortolan.commands.checks.child import Ended
from ortolan.commands.checks.repository import judged

SERVED = "  digits  version 1  instances: 2 on CPU\n"
REFUSED = "  wine  NOT SERVED: the file is cut short\n"


@pytest.mark.parametrize(
    ("ended", "levels", "said"),
    [
        (Ended(0, SERVED * 3, ""), "ok", "3 version(s) can be served"),
        (Ended(1, SERVED + REFUSED, "2026 ERROR …\n"), "broken ok", "wine: the file is cut short"),
        (Ended(1, REFUSED * 60, ""), " ".join(["broken"] * 51), "wine: the file is cut short"),
        (Ended(0, "  no models: the model repository is empty\n", ""), "warning", "there are none"),
        (Ended(2, "", "ortolan: unknown flag --x\n"), "broken", "unknown flag --x"),
        (Ended(1, "", "Traceback\nValueError: x\n"), "broken", "ValueError: x"),
        (Ended(-11, "", ""), "broken", "was ended by signal 11: a model ends the process"),
        (Ended(None, "", ""), "warning", "more than 5 s"),
    ],
)
def test_what_a_table_of_models_comes_to(ended: Ended, levels: str, said: str) -> None:
    findings = judged(ended, 5)
    assert " ".join(each.level.value for each in findings) == levels
    assert said in findings[0].text
