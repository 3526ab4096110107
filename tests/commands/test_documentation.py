from pathlib import Path

import pytest

from ortolan.cli import main
from ortolan.commands.completion_scripts import SCRIPTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_every_command_is_in_the_table_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "fish"])
    script = capsys.readouterr().out
    lines = [line for line in script.splitlines() if "__fish_use_subcommand" in line]
    commands = [line.split(" -a ")[1].split(" ")[0] for line in lines]
    table = PAGE.read_text().split("\n\n")[2]
    assert len(commands) > 8
    assert [command for command in commands if f"`{command}" not in table] == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_page_says_how_each_shell_gets_its_script(shell: str) -> None:
    assert f"ortolan completion {shell}" in PAGE.read_text()
