"""The flags of commands that take all settings, out of the settings themselves."""

import argparse
from typing import Any

from ortolan.hosting.runtime_flags import add_runtime_flags
from ortolan.triton_flags import add_foreign_flags

ALIASES = {"model_repository": ["--model-store"], "disable_auto_complete_config": ["--strict-model-config"]}


def add_settings(parser: argparse.ArgumentParser) -> list[str]:
    """One flag for each setting; the values stay text, for Settings to check."""
    from ortolan.settings import ENVIRONMENT_PREFIX, Settings, flag_of, is_list

    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a model repository, a model's directory, a .onnx file"
    )
    flags: list[str] = []
    for name, field in Settings.model_fields.items():
        several = is_list(name)
        names = [flag_of(name), *ALIASES.get(name, ())]
        default = ",".join(map(str, field.default)) if several else field.default
        parser.add_argument(
            *names,
            dest=name,
            default=argparse.SUPPRESS,
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=_help(f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}; default: {str(default) or 'none'}]"),
            **_argument_form(several, field.annotation is bool),
        )
        flags += names
    add_foreign_flags(parser)
    add_runtime_flags(parser)
    return flags


def _help(text: str) -> str:
    """``text`` as argparse takes it, which fills in what stands behind a percent sign."""
    return text.replace("%", "%%")


def _argument_form(several: bool, boolean: bool) -> dict[str, Any]:
    """A list may be given several times; a switch may stand alone for true."""
    if several:
        return {"action": "append"}
    return {"nargs": "?", "const": "true"} if boolean else {}
