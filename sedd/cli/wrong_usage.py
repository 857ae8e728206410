"""Errors that typer finds in a command line, worded as all others: one line and a hint."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sedd.complaints import clip, not_a_choice, what_is_expected
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


def as_usage_error(error: Any, command: str, arguments: Sequence[str] = ()) -> UsageError:
    """typer's error (click's, in older versions) as one of ours; the hint falls back to the help of `command`.

    `arguments` is the whole command line.
    """
    name = _name_of(error)
    match type(error).__name__:
        case "MissingParameter":
            message, hint = f"{name} is missing", None
        case "NoSuchOption":
            message, hint = (
                f"there is no option {clip(error.option_name)}",
                _meant(error.option_name, error.possibilities),
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
        return f"{name} is {reason}", _about_permission(text)
    first = cause.errors()[0]
    seen = clip(str(first["input"]))
    seen = f"'{seen}'" if first["type"].endswith("_parsing") else seen
    return f"{name} is {seen}; it {what_is_expected(first)}", None


def _about_permission(text: str) -> str | None:
    found = re.match(r"(?:path|file|directory) '(.*)' is not (?:read|writ)able", text, re.DOTALL)
    return permission_hint(Path(found[1])) if found else None


def _other(error: Any, arguments: Sequence[str]) -> tuple[str, str | None]:
    text = _plain(error.message)
    if command := re.match(r"no such command '(.*?)'", text, re.DOTALL):
        return f"there is no command '{clip(command[1])}'", _meant(command[1], error.ctx.command.commands)
    hint = _repeated(error, arguments) if text.startswith("got unexpected extra argument") else None
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
