"""What the commands and flags of ``ortolan`` are, as shells complete them, out of the parser itself."""

import argparse
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")

# Longer ones are cut in lists of completions, of which a terminal shows one a line.
_LONGEST_HELP = 70


class Value(Enum):
    """What stands behind a flag."""

    NONE = "none"
    SWITCH = "switch"
    """true or false, or nothing for true."""
    CHOICE = "choice"
    ANY = "any"
    """Anything, so that files are offered."""


class Flag(NamedTuple):
    """``name`` is ``--http-port``; ``choices`` are values to offer."""

    name: str
    help: str
    value: Value
    choices: tuple[str, ...]
    several: bool
    """Whether it may be given more than once."""


class CommandLine(NamedTuple):
    """One command; ``choices`` are words to offer instead of files, where it takes words."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    takes_words: bool
    choices: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Add what `ortolan completion` takes; the flags' names."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete; eval its script, or keep it")
    return []


def command_lines(
    parser: argparse.ArgumentParser, choices_of: Mapping[str, tuple[str, ...]]
) -> tuple[CommandLine, ...]:
    """The commands below ``parser``, in their order; ``choices_of`` has values of flags for which it takes any text."""
    below = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    helps = {each.dest: each.help or "" for each in below._choices_actions}
    return tuple(_command_line(name, helps.get(name, ""), place, choices_of) for name, place in below.choices.items())


def _command_line(
    name: str, help_text: str, parser: argparse.ArgumentParser, choices_of: Mapping[str, tuple[str, ...]]
) -> CommandLine:
    shown = [each for each in parser._actions if each.help is not argparse.SUPPRESS]
    flags = (flag for each in shown if each.option_strings for flag in _flags(each, choices_of))
    words = [each for each in shown if not each.option_strings]
    choices = tuple(str(choice) for each in words for choice in each.choices or ())
    return CommandLine(name, _short(help_text), tuple(flags), bool(words), choices)


def _flags(action: argparse.Action, choices_of: Mapping[str, tuple[str, ...]]) -> Iterable[Flag]:
    value, choices = _value(action, choices_of)
    several = isinstance(action, argparse._AppendAction)
    for name in action.option_strings:
        if name.startswith("--"):
            yield Flag(name, _short(action.help or ""), value, choices, several)


def _value(action: argparse.Action, choices_of: Mapping[str, tuple[str, ...]]) -> tuple[Value, tuple[str, ...]]:
    known = next((choices_of[name] for name in action.option_strings if name in choices_of), ())
    if choices := known or tuple(map(str, action.choices or ())):
        return Value.CHOICE, choices
    if action.nargs == 0:
        return Value.NONE, ()
    return (Value.SWITCH, ("true", "false")) if action.nargs == "?" else (Value.ANY, ())


def _short(text: str) -> str:
    """The beginning of ``text``, as far as a line has room for it, without what a shell's quotes do not hold."""
    plain = text.replace("%%", "%").partition(" [")[0]
    first = plain.partition("; ")[0].partition(". ")[0].rstrip(".")
    cut = first if len(first) <= _LONGEST_HELP else first[:_LONGEST_HELP].rpartition(" ")[0] + " …"
    # One character for each: quotes, brackets, colons and backslashes mean something to one of the shells.
    return cut.translate(str.maketrans("'[]:\\`", "’(),/’"))
