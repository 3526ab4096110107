"""Scripts that complete ``ortolan`` in bash, zsh and fish; all is in the script, so that no key waits for Python."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ortolan.commands.completion import CommandLine, Flag, Value

Commands = Sequence[CommandLine]


def bash(commands: Commands) -> str:
    """For ``source <(ortolan completion bash)``, or a file in bash-completion's directory."""
    words = "\n".join(f"        {each.name}) words='{_bash_words(each)}' ;;" for each in commands)
    values = "\n".join(
        f"        {each.name}:{flag.name}) values='{' '.join(flag.choices)}' ;;"
        for each in commands
        for flag in each.flags
        if flag.value is Value.CHOICE
    )
    booleans = "|".join(
        f"{each.name}:{flag.name}" for each in commands for flag in each.flags if flag.value is Value.SWITCH
    )
    alone = "|".join(f"{each.name}:{flag.name}" for each in commands for flag in each.flags if flag.value is Value.NONE)
    return _BASH.format(
        commands=" ".join(each.name for each in commands),
        words=words,
        values=values,
        booleans=booleans or "-",
        alone=alone or "-",
    )


def zsh(commands: Commands) -> str:
    """For ``source <(ortolan completion zsh)``, or a file ``_ortolan`` in a directory of ``fpath``."""
    named = "\n".join(f"        '{each.name}:{each.help}'" for each in commands)
    cases = "\n".join(
        f"        {each.name})\n            _arguments \\\n"
        + " \\\n".join(f"                {spec}" for spec in _zsh_specs(each))
        + " ;;"
        for each in commands
    )
    return _ZSH.format(commands=named, cases=cases)


def fish(commands: Commands) -> str:
    """For ``ortolan completion fish | source``, or a file ``ortolan.fish`` in its directory of completions."""
    lines = ["complete -c ortolan -f"]
    for each in commands:
        lines.append(f"complete -c ortolan -n __fish_use_subcommand -a {each.name} -d '{each.help}'")
        chosen = f"complete -c ortolan -n '__fish_seen_subcommand_from {each.name}'"
        if each.choices:
            lines.append(f"{chosen} -a '{' '.join(each.choices)}'")
        elif each.takes_words:
            lines.append(f"{chosen} -F")
        lines += [f"{chosen} -l {flag.name[2:]}{_fish_value(flag)} -d '{flag.help}'" for flag in each.flags]
    return "\n".join(["# Completion of ortolan for fish: ortolan completion fish | source", *lines, ""])


SCRIPTS: Mapping[str, Callable[[Commands], str]] = MappingProxyType({"bash": bash, "zsh": zsh, "fish": fish})


def _bash_words(command: CommandLine) -> str:
    return " ".join([*command.choices, *(flag.name for flag in command.flags)])


def _zsh_specs(command: CommandLine) -> list[str]:
    specs = [f"'{'*' if flag.several else ''}{flag.name}{_zsh_value(flag)}'" for flag in command.flags]
    if command.choices:
        return [*specs, f"'1:choice:({' '.join(command.choices)})'"]
    return [*specs, "'*:path:_files'"] if command.takes_words else specs


def _zsh_value(flag: Flag) -> str:
    described = f"[{flag.help}]"
    if flag.value is Value.NONE:
        return described
    if flag.value is Value.SWITCH:
        # What is left out is true; the value stands behind a = only.
        return f"=-{described}::value:({' '.join(flag.choices)})"
    return f"={described}:value:({' '.join(flag.choices)})" if flag.choices else f"={described}:value:_files"


def _fish_value(flag: Flag) -> str:
    if flag.value is Value.CHOICE:
        return f" -x -a '{' '.join(flag.choices)}'"
    return " -r -F" if flag.value is Value.ANY else ""


_BASH = """\
# Completion of ortolan for bash: source <(ortolan completion bash)
_ortolan() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    local words='' values=''
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '{commands} --help --version' -- "$word")
        return
    fi
    # bash parts --flag=value into three words.
    if [[ $word == = ]]; then
        word=''
    elif [[ $flag == = ]]; then
        flag=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $command:$flag in
{values}
        {booleans})
            [[ ${{COMP_LINE:COMP_POINT-${{#word}}-1:1}} == = ]] && values='true false' ;;
        {alone}) ;;
        *:--*)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return ;;
    esac
    if [[ -n $values ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
        return
    fi
    case $command in
{words}
    esac
    if [[ $word == -* || $words != --* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}}
complete -F _ortolan ortolan
"""

_ZSH = """\
#compdef ortolan
# Completion of ortolan for zsh: source <(ortolan completion zsh)
_ortolan() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        return
    fi
    local command=$words[2]
    words=("${{(@)words[2,-1]}}")
    (( CURRENT -= 1 ))
    case $command in
{cases}
    esac
}}
# Read from fpath it is called at once; sourced it is kept for later.
if [[ $funcstack[1] == _ortolan ]]; then
    _ortolan "$@"
else
    compdef _ortolan ortolan
fi
"""
