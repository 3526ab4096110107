import argparse
import os
import subprocess
import sys

import pytest

from ortolan.commands.command_line import Command, module_command, parser_for, whole_parser


def _no_arguments(parser: argparse.ArgumentParser) -> list[str]:
    raise AssertionError("nobody asked for this command's arguments")


def _one_flag(parser: argparse.ArgumentParser) -> list[str]:
    parser.add_argument("--one", default="")
    return ["--one"]


COMMANDS = {
    "asked": Command("is asked for", _one_flag, lambda parsed: int(parsed.one)),
    "other": Command("is not", _no_arguments, lambda _: 9),
}


def test_only_the_command_that_is_asked_for_says_what_it_takes() -> None:
    parser, flags = parser_for(COMMANDS, ["asked", "--one=7"])
    parsed = parser.parse_args(["asked", "--one=7"])
    assert (flags, parsed.command, parsed.run(parsed)) == (["--one"], "asked", 7)


def test_the_help_names_all_commands_without_asking_any() -> None:
    parser, _ = parser_for(COMMANDS, ["--help"])
    text = parser.format_help()
    assert "is asked for" in text
    assert "other" in text


def test_the_whole_parser_has_the_flags_of_all_that_are_named() -> None:
    _, flags = whole_parser({"asked": COMMANDS["asked"], "again": COMMANDS["asked"]}, ["asked", "again"])
    assert flags == ["--one", "--one"]


def test_a_command_in_a_module_is_imported_when_it_is_asked_for() -> None:
    command = module_command("a module that is not there", "ortolan.commands.nowhere")
    parser_for({"there": COMMANDS["asked"], "nowhere": command}, ["there"])
    with pytest.raises(ModuleNotFoundError):
        parser_for({"nowhere": command}, ["nowhere"])


# What takes longest to import, for a program that runs every few seconds in every container.
@pytest.mark.parametrize(
    "heavy", ["pydantic", "numpy", "grpc", "fastapi", "asyncio", "http.client", "dataclasses", "ortolan.settings"]
)
def test_health_imports_nothing_heavy(heavy: str) -> None:
    program = (
        "import sys; from ortolan.cli import main; code = main(['health']); "
        f"sys.exit(9 if {heavy!r} in sys.modules else code)"
    )
    environment = {**os.environ, "ORTOLAN_HTTP_PORT": "1"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, env=environment)
    assert ended.returncode == 1
