"""The page of all settings, docs/settings.md, out of the code that reads them: running this writes it."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from ortolan import triton_flags
from ortolan.commands.settings_flags import ALIASES
from ortolan.hosting import runtime_flags
from ortolan.settings import ENVIRONMENT_PREFIX, MODEL_KEY, Settings, flag_of, is_list

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

_HEAD = f"""\
# Settings

<!-- Written by `make settings-page` from server/ortolan/settings; do not edit. A test fails when it is stale. -->

A setting of `ortolan serve` is a flag and an environment variable: `--http-port` is `{ENVIRONMENT_PREFIX}HTTP_PORT`.
Flags beat variables, variables beat what a [hosting platform](hosting.md) says, and that beats the defaults below.
`ortolan models` and `ortolan config` take the same flags.

- `--flag value` and `--flag=value` are the same; `_` in a flag is the same as `-`. A switch alone means true.
- Switches are true as `true`, `on`, `yes` or `1`, and false as `false`, `off`, `no` or `0`, in any case.
- Lists: the flag may be given several times. A variable has the parts one after another, parted by commas, or by
  semicolons where a part may have commas of its own.
- Durations are in the unit of the name: `-secs`, `-ms`; others, of gRPC, in milliseconds. Sizes are in bytes.
- A value that is wrong ends the start, with the flag, what was expected and what came. So does an unknown flag. A
  variable that begins with `{ENVIRONMENT_PREFIX}` and is nearly one of these is told in the log.
- Settings that guard something (keys, tokens, certificates, restrictions) are refused where they are given and empty.
"""
_OTHER_VARIABLES = (
    (f"`{MODEL_KEY}`", "keys of encrypted models, parted by commas; no flag, so that no list of processes shows them"),
    ("`CUDA_VISIBLE_DEVICES`", "the GPUs that there are, for models and metrics"),
    ("`XDG_CACHE_HOME`", "where the user's cache is, instead of `~/.cache`"),
    ("`TRITON_AWS_MOUNT_DIRECTORY` and so on", "where [copies of remote repositories](sources.md) are kept"),
    ("`TRITONSERVER_DELAY_SCHEDULER`", "for tests: models begin when so many requests wait"),
    ("`K_SERVICE`, `AIP_MODE`, `SAGEMAKER_…` and so on", "what [hosting platforms](hosting.md) say"),
    ("`NOTIFY_SOCKET`", "where systemd is told that the server is ready"),
)
_ANY = 2**31
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_groups(), *_other_variables(), *_other_names(), *_without_effect()])


def _groups() -> Iterator[str]:
    """A section for each class of settings that the whole is made of, in the order of the flags."""
    subjects = [base for base in reversed(Settings.__mro__) if "Settings" in base.__name__ and base is not Settings]
    for subject in subjects:
        yield f"## {str(subject.__doc__).rstrip('.')}\n"
        yield from _table(("flag", "variable", "default", "values", "what it says"), map(_row, subject.__annotations__))


def _row(name: str) -> tuple[str, ...]:
    field: Any = Settings.model_fields[name]
    names = ", ".join(f"`{each}`" for each in (flag_of(name), *ALIASES.get(name, ())))
    variable = f"`{ENVIRONMENT_PREFIX}{name.upper()}`"
    return names, variable, _default(field.default), _values(name, field), _escaped(field.description)


def _default(value: Any) -> str:
    if value in ("", ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    unit = next((f" ({value // size} {name})" for size, name in _UNITS if _is_multiple(value, size)), "")
    return f"`{value:g}`{unit}" if isinstance(value, float) else f"`{value}`{unit}"


def _is_multiple(value: Any, size: int) -> bool:
    return isinstance(value, int) and value >= size and value % size == 0


def _values(name: str, field: Any) -> str:
    if is_list(name):
        return "texts"
    if get_origin(field.annotation) is not None:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    kind = {bool: "switch", int: "whole number", float: "number", str: "text"}[field.annotation]
    return ", ".join([kind, *(text for each in field.metadata for text in _bound(each))])


def _bound(constraint: Any) -> Iterator[str]:
    for name, words in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
        bound = getattr(constraint, name, None)
        # What is only there so that a number fits into a field of C's is nobody's concern.
        if bound is not None and bound < _ANY:
            yield f"{words} {bound}"


def _escaped(text: str) -> str:
    """As it reads outside of code: what would be Markdown is not, and flags are code, as is what has backticks."""
    parts = re.sub(r"(?<![`\w-])--[a-z][a-z-]*[a-z]", r"`\g<0>`", text).split("`")
    parts[::2] = [part.replace("*", r"\*").replace("<", r"\<") for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def _other_variables() -> Iterator[str]:
    yield "## Other variables of the environment\n"
    yield from _table(("variable", "what it says"), _OTHER_VARIABLES)


def _other_names() -> Iterator[str]:
    """What other servers call settings of ours."""
    yield "## Other servers' names\n"
    yield "Flags of tritonserver, and of the servers that KServe's runtimes start, which have another name here.\n"
    rows = [(flag, f"`{flag_of(field)}`") for field, flags in ALIASES.items() for flag in flags]
    rows += [(flag, f"`--trace-config {setting}=…`") for flag, setting in triton_flags.TRACE_FLAGS.items()]
    rows += [(flag, "`--http-port`") for flag in triton_flags.HTTP_PORTS]
    rows += [(triton_flags.BACKEND_CONFIG, "its `default-max-batch-size=N` is `--default-max-batch-size=N`")]
    rows += [(flag, f"`{flag_of(field)}`") for flag, field in runtime_flags.FIELD_OF_FLAG.items()]
    rows += [(runtime_flags.POLL, "`--model-control-mode=poll --repository-poll-secs=N`; 0: none")]
    rows += [(runtime_flags.PORT, "`--grpc-port`, beside `--http-port` or another name of it; alone it is refused")]
    yield from _table(("flag", "here"), ((f"`{flag}`", here) for flag, here in rows))


def _without_effect() -> Iterator[str]:
    yield "## Flags without effect\n"
    yield "They are taken, with a line on the standard error, so that scripts and charts for other servers work.\n"
    yield f"- tritonserver's: {_listed(triton_flags.WITHOUT_EFFECT)}, other `{triton_flags.BACKEND_CONFIG}`."
    yield f"- those of KServe's runtimes: {_listed(runtime_flags.WITHOUT_EFFECT)}.\n"
    yield f"{_listed(runtime_flags.REFUSED)} end the start: they are for transformers, which ask another server.\n"


def _listed(flags: Iterable[str]) -> str:
    return ", ".join(f"`{flag}`" for flag in flags)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = [heads, ("---",) * len(heads), *rows]
    yield "\n".join("| " + " | ".join(row) + " |" for row in lines).replace("|  |", "| |") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page().rstrip() + "\n", encoding="utf-8")
    print(PAGE, file=sys.stderr)
