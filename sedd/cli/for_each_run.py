"""Apply one action to several runs and print a line for each, even when some of them fail."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import typer

from sedd.cli.console import print_json, show, tell
from sedd.cli.same_name import choose_of_name, tell_of_others
from sedd.cluster.command import SlurmMissingError, SlurmUnreachableError
from sedd.errors import SeddError, UsageError
from sedd.launch.submit_slurm import in_threads
from sedd.rundir.attempts import is_completed, is_left_out, is_stopped
from sedd.rundir.events import read_events
from sedd.rundir.find import each_once, find_runs, runs_root
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import own_runs, require_own
from sedd.waiting import pause

PATIENCE_S = 120.0
"""For a SLURM that does not answer: a controller that starts anew takes less."""
PAUSE_S = 5.0


IsOver = Callable[[RunDir], bool]


class Outcome(Protocol):
    """What became of a run."""

    @property
    def changed(self) -> bool: ...

    @property
    def detail(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing became of a run, and why."""

    error: SeddError
    changed: bool = False

    @property
    def detail(self) -> str:
        return self.error.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What something is done to: a run, or a job that has none."""

    label: str
    """How a line about it begins."""
    document: Mapping[str, str]
    """What names it in JSON."""
    act: Callable[[], Outcome]


def for_each(
    texts: Sequence[str],
    act: Callable[[RunDir], Outcome],
    *,
    word: str,
    as_json: bool,
    together: Callable[[Sequence[RunDir]], Mapping[RunDir, Outcome]] = lambda _: {},
    others: Sequence[Target] = (),
    also_completed: bool = False,
    is_over: IsOver | None = None,
) -> None:
    """Find the runs, do `act` to each, tell, and so with the `others`.

    Ends the command with exit code 1 when one of them refused, 2 when all that refused did so for bad input.

    Of a sweep, what is completed is left out, unless all points are, or `also_completed` ones are meant.

    `is_over` says of the newest run of a name that there is nothing to do to it: then the one older run of that name
    which is alive is meant. A note names other runs of the name that are alive.

    `together` does first what is done for several runs at once, and says for which.

    Raises:
        UsageError: one of the texts names no run, before anything is done.
    """
    runs = _found(texts, word, also_completed, is_over)
    tell_of_others(texts, runs)
    done = together(own_runs(runs))
    targets = [*(_target(run, act) for run in runs), *others]
    known = [*(done.get(run) for run in runs), *(None for _ in others)]
    outcomes = in_threads(lambda pair: pair[1] or _attempted(pair[0]), list(zip(targets, known, strict=True)))
    if as_json:
        documents = [
            {**t.document, word: o.changed, "detail": o.detail}
            for t, o in zip(targets, outcomes, strict=True)
        ]
        print_json({"runs": documents})
    else:
        for target, outcome in zip(targets, outcomes, strict=True):
            _print_outcome(target, outcome)
    if codes := [outcome.error.exit_code for outcome in outcomes if isinstance(outcome, Refused)]:
        raise typer.Exit(min(codes))


def retry_while_unreachable(act: Callable[[], Outcome], *, notify: Callable[[str], None]) -> Outcome:
    """`act`, repeated for a while as long as SLURM does not answer. Raises: what `act` raises in the end."""
    deadline = time.monotonic() + PATIENCE_S
    was_told = False
    while True:
        try:
            return act()
        except SlurmUnreachableError as e:
            if isinstance(e, SlurmMissingError) or time.monotonic() > deadline:
                raise
            if not was_told:
                notify(f"SLURM does not answer ({e.message}); asking again for {PATIENCE_S:.0f} s")
            was_told = True
        pause(PAUSE_S)


def _found(texts: Sequence[str], word: str, also_completed: bool, is_over: IsOver | None) -> list[RunDir]:
    try:
        return each_once(run for text in texts for run in _named(text, also_completed, is_over))
    except UsageError as e:
        nothing = f"; no run was {word}" if len(texts) > 1 else ""
        raise UsageError(e.message + nothing, hint=e.hint) from e


def _named(text: str, also_completed: bool, is_over: IsOver | None) -> list[RunDir]:
    """The runs that a text names; of a sweep or a plan, and of several runs of one name, as `for_each` says."""
    runs = find_runs(text, runs_root())
    if is_over is not None:
        runs = choose_of_name(text, runs, is_over=is_over)
    if also_completed:
        return runs
    return [run for run in runs if not is_done(run)] or runs


def is_done(run: RunDir) -> bool:
    """Whether a run has reached its end: completed, left out of its plan, or stopped by its sweep's rule."""
    events = read_events(run.events)
    return is_completed(events) or is_left_out(events) or is_stopped(events)


def _target(run: RunDir, act: Callable[[RunDir], Outcome]) -> Target:
    return Target(label=f"{run.name}/{run.id}", document={"id": run.id}, act=lambda: act(require_own(run)))


def _attempted(target: Target) -> Outcome:
    def notify(text: str) -> None:
        tell(f"{target.label}: {text}")

    try:
        return retry_while_unreachable(target.act, notify=notify)
    except SeddError as e:
        return Refused(e)


def _print_outcome(target: Target, outcome: Outcome) -> None:
    if not isinstance(outcome, Refused):
        show(f"{target.label}: {outcome.detail}")
        return
    named = "" if target.document.get("id", target.label) in outcome.detail else f"{target.label}: "
    tell(f"error: {named}{outcome.detail}")
    if outcome.error.hint:
        tell(f"hint: {outcome.error.hint}")
