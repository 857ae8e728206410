"""`sedd completion`: scripts by which bash, zsh and fish complete a command line without starting Python."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from sedd.cli.console import print_text, tell
from sedd.errors import UsageError, writing
from sedd.home import expand_home


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedOption:
    """An option of a command: its names, a line of help, and what follows it."""

    names: tuple[str, ...]
    help: str
    takes_value: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedCommand:
    """A command as a user types it, `submit` or `data build`. A group, such as `data`, has `commands`."""

    name: str
    help: str
    options: tuple[CompletedOption, ...]
    takes_runs: bool = False
    commands: tuple[str, ...] = ()


def command(
    shell: Annotated[
        str | None,
        typer.Argument(metavar="SHELL", help="bash, zsh or fish; default: the shell of your account."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the script; install nothing.")] = False,
) -> None:
    """Complete commands, options, runs and files when you press Tab, from the next shell on.

    Call it again after an update, for new commands and options. Example: sedd completion
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SCRIPTS:
        raise UsageError(
            f"there is no completion for {name or 'this shell'}: name one of {', '.join(SCRIPTS)}"
        )
    script = SCRIPTS[name](completed_commands())
    if show:
        print_text(script)
        return
    home = expand_home("~")
    with writing(home / PLACES[name]):
        for line in install(name, script, home):
            tell(line)
    tell("start a new shell, and press Tab after: sedd ")


def completed_commands() -> list[CompletedCommand]:
    """Every command of `sedd`; the first one, without a name, is `sedd` itself."""
    from sedd.cli.main import COMMANDS, build_app

    root = get_command(build_app([]))
    found = [_completed("", "", root, tuple(COMMANDS))]
    for name, summary in COMMANDS.items():
        whole: Any = get_command(build_app([name]))
        called = whole.commands[name]
        inner = getattr(called, "commands", {})
        found.append(_completed(name, _first_line(summary), called, tuple(inner)))
        found += [_completed(f"{name} {n}", _first_line(c.help), c, ()) for n, c in inner.items()]
    return found


def install(shell: str, script: str, home: Path) -> Iterator[str]:
    """Put a script where the shell finds it; what was written, a line each. A line goes into ~/.bashrc or ~/.zshrc
    where nothing else would load it, once."""
    target = home / PLACES[shell]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(script, encoding="utf-8")
    yield f"wrote {target}"
    if shell == "fish" or (shell == "bash" and Path("/usr/share/bash-completion/bash_completion").exists()):
        return
    start, line = home / f".{shell}rc", f"source {shlex.quote(str(target))} # completion of sedd"
    before = start.read_text(encoding="utf-8", errors="surrogateescape") if start.exists() else ""
    if line not in before.splitlines():
        with start.open("a", encoding="utf-8") as file:
            file.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")
        yield f"added to {start}: {line}"


def _completed(name: str, summary: str, built: Any, commands: tuple[str, ...]) -> CompletedCommand:
    options, takes_runs = [], False
    for parameter in built.params:
        if parameter.param_type_name == "argument":
            metavar = str(getattr(parameter, "metavar", None) or "")
            takes_runs |= "RUN" in metavar and "SPEC" not in metavar
            continue
        options.append(
            CompletedOption(
                names=tuple(n for n in (*parameter.opts, *parameter.secondary_opts) if n.startswith("-")),
                help=_first_line(getattr(parameter, "help", None)),
                takes_value=not getattr(parameter, "is_flag", False),
            )
        )
    options.append(CompletedOption(names=("--help",), help="Show its help.", takes_value=False))
    return CompletedCommand(
        name=name, help=summary, options=tuple(options), takes_runs=takes_runs, commands=commands
    )


def _first_line(text: str | None) -> str:
    line = re.sub(r"\s+", " ", (text or "").strip().partition("\n")[0])
    return line.replace("'", "’").replace('"', "”").replace("`", "’").replace("$", "")


def _words(command: CompletedCommand) -> str:
    return " ".join(name for option in command.options for name in option.names)


def _with_values(command: CompletedCommand) -> str:
    return " ".join(name for option in command.options if option.takes_value for name in option.names)


def _groups(commands: list[CompletedCommand]) -> str:
    return "|".join(c.name for c in commands if c.commands and c.name)


def bash_script(commands: list[CompletedCommand]) -> str:
    """Complete in bash: commands, options and runs, else files."""
    cases = []
    for c in commands:
        runs = "runs=yes" if c.takes_runs else ""
        words = f'commands="{" ".join(c.commands)}" options="{_words(c)}" values="{_with_values(c)}"'
        cases.append(f'    "{c.name}") {words} {runs} ;;')
    return _BASH % {"groups": _groups(commands), "cases": "\n".join(cases)}


def zsh_script(commands: list[CompletedCommand]) -> str:
    """Complete in zsh, with a line of help beside each command and option."""
    by_name, cases = {c.name: c for c in commands}, []
    for c in commands:
        inner = " ".join(f"'{n}:{_help(by_name, c, n)}'" for n in c.commands)
        options = " ".join(f"'{n}:{o.help.replace(':', chr(92) + ':')}'" for o in c.options for n in o.names)
        runs = " runs=yes" if c.takes_runs else ""
        words = f"commands=({inner}) options=({options}) values=' {_with_values(c)} '"
        cases.append(f"    '{c.name}') {words}{runs} ;;")
    return _ZSH % {"groups": _groups(commands), "cases": "\n".join(cases)}


def fish_script(commands: list[CompletedCommand]) -> str:
    """Complete in fish, with a line of help beside each command and option."""
    by_name, lines = {c.name: c for c in commands}, []
    for c in commands:
        here = f"__sedd_at '{c.name}'"
        for name in c.commands:
            lines.append(f"complete -c sedd -f -n \"{here}\" -a {name} -d '{_help(by_name, c, name)}'")
        if c.takes_runs:
            lines.append(f"complete -c sedd -n \"{here}\" -a '(__sedd_runs)'")
        for o in c.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in o.names)
            value = " -rF" if o.takes_value else ""
            lines.append(f"complete -c sedd -n \"{here}\" {names}{value} -d '{o.help}'")
    return (
        _FISH % {"groups": " ".join(c.name for c in commands if c.commands and c.name)}
        + "\n".join(lines)
        + "\n"
    )


def _help(by_name: dict[str, CompletedCommand], group: CompletedCommand, name: str) -> str:
    return by_name[f"{group.name} {name}".strip()].help.replace(":", "\\:") if group else ""


_BASH = """\
# Completion of sedd in bash; made by `sedd completion`, which makes it again.
_sedd() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} at= word i
    local commands= options= values= runs=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$at" in
            "") [[ $word == -* ]] || at=$word ;;
            %(groups)s) [[ $word == -* ]] || at="$at $word" ;;
        esac
    done
    COMPREPLY=()
    case "$at" in
%(cases)s
    esac
    if [[ " $values " == *" $prev "* ]]; then
        return # a file
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
    elif [[ -n $commands ]]; then
        COMPREPLY=($(compgen -W "$commands" -- "$cur"))
    elif [[ -n $runs ]]; then
        # Names of runs; their ids, which begin with a date, only where one is begun.
        local found root=${SEDD_RUNS:-runs} deep=
        [[ $cur == [0-9]* ]] && deep=*/
        found=$(command ls -1d "$root"/*/$deep 2>/dev/null)
        COMPREPLY=($(compgen -W "$(sed 's:/*$::; s:.*/::' <<<"$found")" -- "$cur"))
    fi
}
complete -o bashdefault -o default -F _sedd sedd
"""

_ZSH = """\
#compdef sedd
# Completion of sedd in zsh; made by `sedd completion`, which makes it again.
_sedd() {
    local at= word values= runs= i
    local -a commands options
    for ((i = 2; i < CURRENT; i++)); do
        word=${words[i]}
        case "$at" in
            '') [[ $word == -* ]] || at=$word ;;
            %(groups)s) [[ $word == -* ]] || at="$at $word" ;;
        esac
    done
    case "$at" in
%(cases)s
    esac
    if [[ $values == *" ${words[CURRENT - 1]} "* ]]; then
        _files
    elif [[ ${words[CURRENT]} == -* ]]; then
        _describe option options
    elif (( $#commands )); then
        _describe command commands
    else
        if [[ -n $runs ]]; then
            local -a found
            local root=${SEDD_RUNS:-runs}
            if [[ ${words[CURRENT]} == [0-9]* ]]; then found=($root/*/*(N/:t)); else found=($root/*(N/:t)); fi
            compadd -a found
        fi
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _sedd sedd
"""

_FISH = """\
# Completion of sedd in fish; made by `sedd completion`, which makes it again.
function __sedd_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; and continue
        if test -z "$at"
            set at $word
        else if contains -- $at %(groups)s
            set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
function __sedd_runs
    set -l root runs
    set -q SEDD_RUNS; and set root $SEDD_RUNS
    # `set` takes a pattern without matches for nothing.
    set -l folders $root/*/
    string match -q -r '^[0-9]' -- (commandline -ct); and set folders $root/*/*/
    string replace -r '.*/' '' -- (string trim -r -c / -- $folders)
end
complete -c sedd -n "not __sedd_at ''" -F
"""

SCRIPTS: dict[str, Callable[[list[CompletedCommand]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
"""What writes the script of a shell."""
PLACES = {
    "bash": ".local/share/bash-completion/completions/sedd",
    "zsh": ".local/share/zsh/sedd-completion.zsh",
    "fish": ".config/fish/completions/sedd.fish",
}
"""Where it goes below the home folder."""
