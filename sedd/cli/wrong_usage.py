"""Errors that typer finds in a command line, worded as all others: one line and a hint."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sedd.complaints import clip, not_a_choice, share_hint, what_is_expected
from sedd.errors import UsageError, did_you_mean, permission_hint

_PLAINER = {
    r"got unexpected extra argument(?:s|\(s\))? \((.*)\)": r"unexpected argument \1",
    r"option '(.*)' requires an argument": r"\1 needs a value",
    r"option '(.*)' does not take a value": r"\1 takes no value",
}
"""typer's words, with a small letter and no full stop, and ours."""
_OF_CLICK = {
    r"('.*') is not a valid integer.*": r"\1; it must be a whole number",
    r"('.*') is not a valid float.*": r"\1; it must be a number",
    r"(.*) is not in the range x>=(.*)": r"\1; it must be greater than or equal to \2",
    r"(.*) is not in the range (?:.*<=)?x<=(.*)": r"\1; it must be less than or equal to \2",
}
"""The same for values, of older versions."""
_OF_PATHS = {
    r"(?:path|file|directory) ('.*') is not readable": r"\1, which cannot be read: permission denied",
    r"(?:path|file|directory) ('.*') is not writable": r"\1, which cannot be written: permission denied",
    r"(?:path|file|directory) ('.*') ((?:is|does) .*)": r"\1, which \2",
}
"""The same for files and folders, in every version."""

_PAGES = ("--page", "--report", "--html")
"""How commands call the option that writes a page."""


def as_usage_error(error: Any, command: str, arguments: Sequence[str] = ()) -> UsageError:
    """typer's error (click's, in older versions) as one of ours; the hint falls back to the help of `command`.

    `arguments` is the whole command line.
    """
    name = _name_of(error)
    match type(error).__name__:
        case "MissingParameter":
            message, hint = f"{name} is missing", _meant_for(error, name, arguments)
        case "NoSuchOption":
            message, hint = (
                f"there is no option {clip(error.option_name)}",
                _page_option(error) or _meant(error.option_name, error.possibilities),
            )
        case "BadParameter":
            message, hint = _bad_value(name, error)
        case _:
            message, hint = _other(error, arguments)
    return UsageError(message, hint=hint or f"{error.ctx.command_path if error.ctx else command} --help")


def _bad_value(name: str, error: Any) -> tuple[str, str | None]:
    if choice := re.match(r"(?:Value error, )?'(.*)' is not one of (.*?)\.?$", error.message, re.DOTALL):
        problem = not_a_choice("", name, choice[1], " or ".join(choice[2].rsplit(", ", 1)))
        return problem.what, problem.hint
    cause = error.__cause__
    if type(cause).__name__ != "ValidationError":  # in older versions click looks at values
        text = _plain(error.message)
        known = (_OF_PATHS | _OF_CLICK).items()
        reason = next(
            (re.sub(p, words, text, flags=re.DOTALL) for p, words in known if re.match(p, text, re.DOTALL)),
            text,
        )
        return f"{name} is {reason}", _about_permission(text) or _share_meant(text)
    first = cause.errors()[0]
    seen = clip(str(first["input"]))
    seen = f"'{seen}'" if first["type"].endswith("_parsing") else seen
    return f"{name} is {seen}; it {what_is_expected(first)}", share_hint(first)


def _share_meant(text: str) -> str | None:
    """As `share_hint`, of click's words in older versions: `15.0 is not in the range 0<=x<=1.`"""
    found = re.match(r"(.*) is not in the range .*x<=?([01](?:\.[0-9]+)?)$", text, re.DOTALL)
    if found is None:
        return None
    return share_hint({"type": "less_than_equal", "ctx": {"le": float(found[2])}, "input": found[1]})


def _about_permission(text: str) -> str | None:
    found = re.match(r"(?:path|file|directory) '(.*)' is not (?:read|writ)able", text, re.DOTALL)
    return permission_hint(Path(found[1])) if found else None


def _other(error: Any, arguments: Sequence[str]) -> tuple[str, str | None]:
    text = _plain(error.message)
    if command := re.match(r"no such command '(.*?)'", text, re.DOTALL):
        return f"there is no command '{clip(command[1])}'", _meant(command[1], error.ctx.command.commands)
    hint = None
    if text.startswith("got unexpected extra argument"):
        repeated, meant = _repeated(error, arguments), _meant_for(error, None, arguments)
        hint = meant if meant and "--mutants" in meant else repeated or meant
    for pattern, plainer in _PLAINER.items():
        text = re.sub(pattern, plainer, text)
    return text, hint


def _repeated(error: Any, arguments: Sequence[str]) -> str | None:
    """How to write several values of one option, where two follow it: `--fasta a.fasta b.fasta`."""
    repeatable = [each.opts for each in error.ctx.command.params if getattr(each, "multiple", False)]
    for option, first, second in zip(arguments, arguments[1:], arguments[2:], strict=False):
        is_one = any(option in names for names in repeatable)
        if is_one and not first.startswith("-") and not second.startswith("-"):
            return f"{option} takes one value and may be repeated: {option} {clip(first)} {option} {clip(second)}"
    return None


def _meant_for(error: Any, missing: str | None, arguments: Sequence[str]) -> str | None:
    """How the first text was meant that no option or argument takes: as `--fasta p60.fasta`, or the missing option."""
    taken, left = _parsed(error, arguments)
    if not left:
        return None
    known = {name for each in error.ctx.command.params for name in each.opts}
    first, run = Path(left[0]), taken.get("run")
    if isinstance(run, str) and "--fasta" in known and Path(run).is_file() and not first.is_file():
        return f"the network comes first: {error.ctx.command_path} {clip(left[0])} --fasta {clip(run)}"
    wanted = [missing] if missing and missing.startswith("--") else []
    if first.is_file():
        wanted += ["--mutants"] if first.suffix in (".csv", ".tsv") else ["--fasta", "--parent"]
    elif first.suffix:
        wanted += ["--output"]
    option = next((name for name in wanted if name in known), None)
    return f"did you mean {option} {clip(left[0])}?" if option else None


def _parsed(error: Any, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What options and arguments of the called command take of a command line, by parameter, and what is left."""
    if error.ctx is None:
        return {}, []
    rest = list(arguments)
    for name in error.ctx.command_path.split()[1:]:
        rest = rest[rest.index(name) + 1 :] if name in rest else rest
    click_error: Any = next(each for each in type(error).__mro__ if each.__name__ == "ClickException")
    try:
        taken, left, _ = error.ctx.command.make_parser(error.ctx).parse_args(rest)
    except click_error:
        return {}, []
    return taken, list(left)


def _page_option(error: Any) -> str | None:
    """The option of a page under its name here, for one that has it under another command's."""
    if error.option_name not in _PAGES or error.ctx is None:
        return None
    known = {name for each in error.ctx.command.params for name in each.opts}
    option = next((name for name in _PAGES if name in known), None)
    return f"did you mean '{option}'?" if option else None


def _meant(wrong: str, possible: Iterable[str] | None) -> str | None:
    return did_you_mean(clip(wrong), possible or (), cutoff=0.5)


def _name_of(error: Any) -> str:
    """The option's first name, as `--count`; an argument as the help has it, `RUN`."""
    if (parameter := getattr(error, "param", None)) is None:
        return ""
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    return str(parameter.metavar)


def _plain(text: str) -> str:
    """Without the capital and the full stop of a sentence."""
    return text[:1].lower() + text[1:].rstrip(".")
