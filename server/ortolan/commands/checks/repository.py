"""The models: what ``ortolan models`` says of each, in a process of its own, because a model may take one with it."""

import os
from collections.abc import Mapping, Sequence

from ortolan.commands.checks.child import Ended, run
from ortolan.commands.checks.finding import Finding, broken, ok, warning

SUBJECT = "models"
# More would hide the rest.
_MOST = 50
_NOT_SERVED = "  NOT SERVED: "
_REMEDY = "correct it; `ortolan config PATH` shows what a configuration comes to"


def check(arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> list[Finding]:
    """``arguments`` are the paths and flags that were given to this command."""
    return judged(run(["-m", "ortolan", "models", *arguments], environment, timeout_s), timeout_s)


def judged(ended: Ended, timeout_s: float) -> list[Finding]:
    """What a table of models, and how it ended, come to."""
    lines = [line.strip() for line in ended.out.splitlines() if line.startswith("  ")]
    refused = [tuple(line.split(_NOT_SERVED.rstrip(), 1)) for line in lines if _NOT_SERVED in f"{line} "]
    served = [line for line in lines if _NOT_SERVED not in line and not line.startswith("no models")]
    findings = [broken(SUBJECT, f"{name.strip()}: {why.strip()}", _REMEDY) for name, why in refused[:_MOST]]
    if len(refused) > _MOST:
        findings.append(broken(SUBJECT, f"{len(refused) - _MOST} more are not served", "run `ortolan models` for all"))
    if ended.code is None:
        text = f"loading them took more than {timeout_s:g} s"
        findings.append(warning(SUBJECT, text, "give --models-timeout-secs more time, or look at `ortolan models`"))
    elif ended.code < 0:
        findings.append(broken(SUBJECT, f"loading them {ended.how}: a model ends the process", _one_by_one()))
    elif ended.code == 2 or (ended.code and not refused):
        said = next((line for line in reversed(ended.err.splitlines()) if line.strip()), ended.how)
        findings.append(broken(SUBJECT, said.removeprefix("ortolan: ")[:500], "correct that, and ask again"))
    elif served:
        findings.append(ok(SUBJECT, f"{len(served)} version(s) can be served"))
    elif not refused:
        findings.append(warning(SUBJECT, "there are none", "a repository has MODEL/VERSION/model.onnx for each model"))
    return findings


def _one_by_one() -> str:
    return f"find which one with `ortolan models PATH{os.sep}MODEL` for each"
