"""The parser of ``ortolan``: all commands by name, and the arguments of the one that is asked for."""

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ortolan import __version__

AddArguments = Callable[[argparse.ArgumentParser], list[str]]
Run = Callable[[argparse.Namespace], int]


class Command(NamedTuple):
    """``add_arguments`` returns the names of the flags; ``run`` the exit code."""

    help: str
    add_arguments: AddArguments
    run: Run


def module_command(help_text: str, module: str) -> Command:
    """A command with a module of its own, which is imported when it is asked for."""

    def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
        return list(importlib.import_module(module).add_arguments(parser))

    def run(parsed: argparse.Namespace) -> int:
        return int(importlib.import_module(module).run(parsed))

    return Command(help_text, add_arguments, run)


def parser_for(
    commands: Mapping[str, Command], arguments: Sequence[str]
) -> tuple[argparse.ArgumentParser, Sequence[str]]:
    """The parser that ``arguments`` need, and the flags of their command.

    Only that command's are in it: those of the server alone take 0.3 s to know.
    """
    asked = next((each for each in arguments if not each.startswith("-")), "")
    return whole_parser(commands, [asked])


def whole_parser(
    commands: Mapping[str, Command], with_arguments: Sequence[str]
) -> tuple[argparse.ArgumentParser, Sequence[str]]:
    """The parser of all ``commands``, of which those in ``with_arguments`` take theirs; and the flags of these."""
    parser = argparse.ArgumentParser(prog="ortolan", description="A model server for ONNX models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ortolan {__version__}")
    # Told its name, argparse need not format a usage to find it, for which it imports half of the standard library.
    places = parser.add_subparsers(required=True, metavar="COMMAND", prog=parser.prog)
    flags: list[str] = []
    for name, command in commands.items():
        place = places.add_parser(name, help=command.help, allow_abbrev=False)
        place.set_defaults(run=command.run, command=name)
        if name in with_arguments:
            flags += command.add_arguments(place)
    return parser, flags
