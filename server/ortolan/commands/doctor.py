"""``ortolan doctor``: what keeps a server from serving here, each with its remedy.

It is needed where something is not as it should be, so it imports nothing before it is looked at, and each part of it
may fail without the others.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ortolan.commands.checks.finding import Finding, Level, broken, ok
from ortolan.commands.durations import seconds
from ortolan.errors import StartupError

if TYPE_CHECKING:
    from ortolan.settings import Settings

Check = Callable[[], Iterable[Finding]]

_MODELS_TIMEOUT_S = "120"
_OWN = ("run", "command", "paths", "json", "models_timeout_secs")


def add_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Add what `ortolan doctor` takes: all that `ortolan serve` does as well; the flags' names."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--models-timeout-secs",
        default=_MODELS_TIMEOUT_S,
        metavar="SECS",
        help=f"how long loading all models may take; default: {_MODELS_TIMEOUT_S}",
    )
    try:
        from ortolan.commands.settings_flags import add_settings

        return ["--json", "--models-timeout-secs", *add_settings(parser)]
    # What settings are made with is not installed, or broken: what follows is for nobody, and may be anything.
    except Exception:
        parser.add_argument("paths", nargs=argparse.REMAINDER)
        return ["--json"]


def run(parsed: argparse.Namespace) -> int:
    """1 where something is broken, else 0."""
    checks = _checks(parsed, dict(os.environ))
    findings = [finding for check in checks for finding in looked(check)]
    print(_as_json(findings) if parsed.json else text_of(findings))
    return 1 if any(each.level is Level.BROKEN for each in findings) else 0


def looked(check: Check) -> list[Finding]:
    """What a check finds; that it cannot look is a finding, too."""
    try:
        return list(check())
    except StartupError as error:
        return [broken("settings", str(error), "correct that setting, or leave it out")]
    # Whatever it was: the other checks are to be made.
    except Exception as error:
        what = check.__name__.strip("_").replace("_", " ")
        return [broken(what, f"cannot be looked at: {type(error).__name__}: {error}", "see what else is broken first")]


def text_of(findings: Sequence[Finding]) -> str:
    """One line for each, one more for what to do, and how many there are."""
    width = max((len(each.subject) for each in findings), default=0)
    lines: list[str] = []
    for each in findings:
        lines.append(f"{each.level.value:<8} {each.subject:<{width}}  {' '.join(each.text.split())}")
        if each.remedy:
            lines.append(f"{'':<8} {'':<{width}}  → {each.remedy}")
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    return "\n".join([*lines, "", f"{counts[Level.BROKEN]} broken, {counts[Level.WARNING]} warnings"])


def _as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([{**each._asdict(), "level": each.level.value} for each in findings], indent=2)


def _checks(parsed: argparse.Namespace, environment: Mapping[str, str]) -> list[Check]:
    models_s = seconds("--models-timeout-secs", parsed.models_timeout_secs) if "models_timeout_secs" in parsed else 0.0
    given = {name: value for name, value in vars(parsed).items() if name not in _OWN}

    def packages() -> Iterable[Finding]:
        from ortolan.commands.checks.packages import check

        return check(environment)

    def runtime() -> Iterable[Finding]:
        from ortolan.commands.checks.runtime import check

        return check(environment)

    def machine() -> Iterable[Finding]:
        from ortolan.commands.checks.machine import check

        return check()

    def settings() -> Iterable[Finding]:
        from ortolan.commands.checks.chosen_settings import check

        return check(_settings(parsed.paths, given, environment), environment)

    def models() -> Iterable[Finding]:
        from ortolan.commands.checks.repository import check

        try:
            if not _settings(parsed.paths, given, environment).model_repository:
                return [ok("models", "no repository is named: give a PATH to have its models looked at")]
        except StartupError:
            # Is told of the settings.
            return []
        return check([*arguments_of(given), *parsed.paths], environment, models_s)

    return [packages, runtime, machine, settings, models]


def _settings(paths: Sequence[str], given: Mapping[str, Any], environment: Mapping[str, str]) -> "Settings":
    """As `ortolan serve` has them. Raises StartupError for wrong ones."""
    from ortolan.hosting.local_files import LocalFiles
    from ortolan.hosting.runtime_flags import with_ports
    from ortolan.settings import find_hosting, read_settings

    flags = with_ports(given)
    if repositories := [*paths, *flags.pop("model_repository", [])]:
        flags["model_repository"] = repositories
    return read_settings(flags, environment, find_hosting(flags, environment, LocalFiles()))


def arguments_of(given: Mapping[str, Any]) -> list[str]:
    """The command line of settings that were ``given`` by field name."""
    pairs = ((name, value if isinstance(value, list) else [value]) for name, value in given.items())
    return [f"--{name.replace('_', '-')}={each}" for name, values in pairs for each in values]
