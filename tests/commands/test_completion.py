import argparse

import pytest

from ortolan.cli import main
from ortolan.commands.completion import CommandLine, Flag, Value, command_lines
from ortolan.commands.completion_scripts import SCRIPTS


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="ortolan")
    places = whole.add_subparsers()
    place = places.add_parser("run", help="it's run: now")
    place.add_argument("path", nargs="*")
    place.add_argument("--port", help="The port; 0: a free one. [ORTOLAN_PORT; default: 100%%]")
    place.add_argument("--fast", nargs="?", const="true", help="go " + "on and " * 20)
    place.add_argument("--mode", action="append", default=[])
    place.add_argument("--json", "-j", action="store_true")
    place.add_argument("--old", help=argparse.SUPPRESS)
    places.add_parser("tell", help="tell").add_argument("what", choices=("all", "none"))
    return whole


def test_commands_are_what_the_parser_has() -> None:
    run, tell = command_lines(parser(), {"--mode": ("a", "b")})
    assert run == CommandLine(
        "run",
        "it’s run, now",
        (
            Flag("--help", "show this help message and exit", Value.NONE, (), False),
            Flag("--port", "The port", Value.ANY, (), False),
            Flag("--fast", "go " + "on and " * 9 + "on …", Value.SWITCH, ("true", "false"), False),
            Flag("--mode", "", Value.CHOICE, ("a", "b"), True),
            Flag("--json", "", Value.NONE, (), False),
        ),
        takes_words=True,
        choices=(),
    )
    assert (tell.name, tell.takes_words, tell.choices) == ("tell", True, ("all", "none"))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_has_every_flag_of_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("serve", "health", "completion", "http-port", "strict-model-config", "timeout-secs", "poll", "pbtxt"):
        assert word in script
    # What is only taken for the sake of other servers' manifests is not offered.
    assert "backend-directory" not in script
    assert "rest-port" not in script


def test_a_shell_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "cmd"])
    assert ended.value.code == 2
    assert "bash" in capsys.readouterr().err
