"""Whether the program or file of `notify` is there. The program's arguments, which may hold a token, are not shown."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.profile import notify_settings
from sedd.errors import UsageError
from sedd.home import expand_home
from sedd.preflight.check import Check, CheckContext, Side, Verdict, combine, warn


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    means: tuple[str, ...]
    """Which are set, each with its program or file."""
    problems: tuple[tuple[str, str], ...] = ()
    """What is wrong with them, and what to do."""


def gather(context: CheckContext) -> Facts | None:
    settings = notify_settings(context.profile, context.environ)
    if settings is None or (settings.command is None and settings.apprise is None):
        return None
    means, problems = [], []
    if settings.command:
        means.append(f"command {settings.command[0]}")
        problems.append(_program_problem(settings.command[0], context.environ))
    if settings.apprise is not None:
        means.append(f"apprise with {settings.apprise}")
        problems.append(_apprise_problem(settings.apprise))
    return Facts(means=tuple(means), problems=tuple(p for p in problems if p is not None))


def judge(facts: Facts) -> Verdict:
    return combine((warn(*problem) for problem in facts.problems), all_well="; ".join(facts.means))


def _program_problem(word: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    try:
        program = expand_home(word)
    except UsageError as e:
        return f"notify.command: {e.message}", e.hint or _TO_DO
    if len(program.parts) > 1 and not program.is_absolute():
        return f"notify.command: {word} is found from one folder alone", "write its whole path, from / or ~"
    if shutil.which(program, path=environ.get("PATH")) is not None:
        return None
    if len(program.parts) == 1:
        return f"notify.command: no program {word} in $PATH", _TO_DO
    if program.is_file():
        return f"notify.command: {program} is not executable", f"chmod +x {program}"
    return f"notify.command: {program} {'is a folder' if program.is_dir() else 'does not exist'}", _TO_DO


def _apprise_problem(word: str) -> tuple[str, str] | None:
    if importlib.util.find_spec("apprise") is None:
        return "notify.apprise: apprise is not installed", "pip install 'protein-sedd[notify]'"
    try:
        file = expand_home(word)
    except UsageError as e:
        return f"notify.apprise: {e.message}", e.hint or _TO_DO
    if not _is_readable(file):
        return f"notify.apprise: {file} is no file that you can read", _TO_DO
    return None


def _is_readable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK)


_TO_DO = "nobody is told how the run ends: mend `notify` in the profile or in ~/.config/sedd/config.yaml"

CHECK = Check(
    sides=(Side.LOGIN,),
    catches="a missing `notify` program or file: nobody would be told how runs end",
    takes="< 0.1 s",
    of_request=True,
    passing=Facts(means=("command /home/ada/tell.sh",)),
    failing=Facts(
        means=("command /home/ada/tell.sh",),
        problems=(("notify.command: /home/ada/tell.sh does not exist", _TO_DO),),
    ),
)
