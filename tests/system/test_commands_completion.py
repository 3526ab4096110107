"""Completion as real shells do it: keys on a terminal, where a shell cannot say it otherwise."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from server_process import command
from shells import Shell, found
from terminal import Terminal, on_a_terminal

PROMPT = "ready> "


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    written = subprocess.run(command("completion", request.param), capture_output=True, timeout=60, check=True)
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_bytes(written.stdout)
    return request.param, path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "a_repository").mkdir()
    (tmp_path / "key.pem").touch()
    return tmp_path


# The line so far, and how it goes on: without a value where the shell lists what there is.
CASES = [
    ("ortolan he", "ortolan health "),
    ("ortolan serve --http-po", "ortolan serve --http-port"),
    ("ortolan serve --model-control-mode pol", "ortolan serve --model-control-mode poll"),
    ("ortolan serve --model-control-mode=expl", "ortolan serve --model-control-mode=explicit"),
    ("ortolan serve a_rep", "ortolan serve a_repository/"),
    ("ortolan serve --tls-key ke", "ortolan serve --tls-key key.pem"),
    ("ortolan config --format=pb", "ortolan config --format=pbtxt"),
    ("ortolan completion fi", "ortolan completion fish"),
    ("ortolan health --li", "ortolan health --live"),
]


def test_a_shell_completes_commands_flags_values_and_files(script: tuple[str, Path], files: Path) -> None:
    name, path = script
    if name == "fish":
        _completes_by_fish(path, files)
        return
    shell = _shell(name)
    home = files / "home"
    home.mkdir()
    (home / ".zshrc").write_text(
        f"{shell.setting}autoload -Uz compinit; compinit -u -D; source {path}\n"
        f"unsetopt beep; unset zle_bracketed_paste; PS1='{PROMPT}'\n"
    )
    (home / "bashrc").write_text(f"bind 'set bell-style none'; source {path}; PS1='{PROMPT}'\n")
    start = ["--noprofile", "--rcfile", home / "bashrc", "-i"] if name == "bash" else ["--no-global-rcs", "-i"]
    environment = {**shell.environment, "TERM": "dumb", "HISTFILE": os.devnull, "HOME": str(home), "ZDOTDIR": str(home)}
    with on_a_terminal([shell.binary, *start], environment, columns=1000) as terminal:
        terminal.until(lambda text: text.endswith(PROMPT))
        terminal.press(f"cd {files}\r")
        terminal.until(lambda text: text.endswith(PROMPT))
        for begun, completed in CASES:
            assert _completed(terminal, begun, completed).rstrip(" /=") == completed.rstrip(" /")


def _completed(terminal: Terminal, begun: str, completed: str) -> str:
    """The line as it is once the shell has completed it, which is then taken back."""
    terminal.press(f"{begun}\t")
    terminal.until(lambda text: completed.rstrip(" /") in _plain(text))
    # Says what the line is, whatever the shell did to show it.
    terminal.press("\x01echo '\x05'\r")
    said = terminal.until(lambda text: text.endswith(PROMPT) and "\n" in text)
    return _plain(said).replace("\r", "").split("\n")[-2]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\x1b[=>]|\x07", "", text)


def _completes_by_fish(path: Path, files: Path) -> None:
    shell = _shell("fish")
    asked = "".join(f"complete -C '{begun}' | string collect; echo; echo -- ---\n" for begun, _ in CASES)
    done = subprocess.run(
        [shell.binary, "--no-config", "-c", f"{shell.setting}source {path}\n{asked}"],
        cwd=files,
        capture_output=True,
        text=True,
        timeout=60,
        env={**shell.environment, "HOME": str(files)},
    )
    assert done.stderr == ""
    answers = [answer.strip().split("\n") for answer in done.stdout.split("---\n")]
    for (_, completed), offered in zip(CASES, answers, strict=False):
        words = [each.partition("\t")[0].strip() for each in offered]
        assert completed.rstrip().rpartition(" ")[2] in words


def _shell(name: str) -> Shell:
    if name == "bash":
        binary = shutil.which("bash")
        shell: Shell | str = Shell(Path(binary), "", os.environ) if binary else "bash is not there"
    else:
        shell = found(name)
    if isinstance(shell, str):
        pytest.skip(shell)
    return shell
