"""`sedd cancel`: end runs for good."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cli.console import note, tell_wait
from sedd.cli.for_each_run import Outcome, Target, for_each
from sedd.cli.halving import wake_and_tell
from sedd.cli.options import Json, Runs
from sedd.cli.same_name import has_ended
from sedd.cluster.command import SlurmMissingError
from sedd.errors import SeddError, UsageError
from sedd.halving.fellows import read_halving
from sedd.launch.cancel import cancel
from sedd.launch.orphans import Orphan, cancel_orphans, find_owner
from sedd.rundir.find import find_runs, runs_root
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import find_plan
from sedd.waiting import slow_waits_told

_JOB_ID = re.compile(r"\d+(_\d+)?")


@slow_waits_told(tell_wait)
def command(
    runs: Runs,
    as_json: Json = False,
) -> None:
    """End runs for good: they save a checkpoint, and nothing starts them again but `sedd requeue`.

    A job id also ends a job of yours whose run folder is gone; only one that carries a token of sedd.

    Example: sedd cancel quickstart
    """
    now = dt.datetime.now(dt.UTC)
    texts, orphans = _split(runs)
    touched: list[RunDir] = []

    def together(found: Sequence[RunDir]) -> dict[RunDir, Outcome]:
        touched.extend(found)
        is_joined = any(find_plan(text, runs_root()) for text in texts) or any(map(read_halving, found))
        return _at_once(found, now) if is_joined else {}

    try:
        for_each(
            texts,
            lambda run: cancel([run], now=now)[0],
            word="cancelled",
            as_json=as_json,
            others=[_target(orphan) for orphan in orphans],
            together=together,
            is_over=has_ended,
        )
    except Exception:  # exit code 1, too; not Ctrl-C, after which nothing more is waited for
        wake_and_tell(touched)
        raise
    wake_and_tell(touched)  # what is cancelled at a rung makes room for another


def _at_once(runs: Sequence[RunDir], now: dt.datetime) -> dict[RunDir, Outcome]:
    """All runs of a plan or of a halving sweep together: none of them starts because another has ended."""
    try:
        return {each.run: each for each in cancel(runs, now=now)}
    except SeddError:
        return {}  # each run by itself says what is wrong with it


@dataclass(frozen=True, slots=True)
class _Ended:
    detail: str
    changed: bool = True


def _target(orphan: Orphan) -> Target:
    def act() -> _Ended:
        cancel_orphans([orphan])
        return _Ended(f"cancelled; it belonged to no run folder: {orphan.absence}")

    job_id = orphan.job.job_id
    return Target(label=f"job {job_id}", document={"job_id": job_id, "folder": orphan.folder}, act=act)


def _split(texts: Sequence[str]) -> tuple[list[str], list[Orphan]]:
    """Find runs by what a user types, and jobs whose run folder is gone by the token in their comment.

    Raises:
        UsageError, RunError, ClusterError: a job id that is of no run, and of no job of ours.
    """
    named: list[str] = []
    orphans: list[Orphan] = []
    for text in texts:
        found = _find_job(text) if _JOB_ID.fullmatch(text) else [text]
        named += [one for one in found if isinstance(one, str)]
        orphans += [one for one in found if isinstance(one, Orphan)]
    return named, orphans


def _find_job(text: str) -> Sequence[str | Orphan]:
    try:
        find_runs(text, runs_root())
    except UsageError as unknown:
        try:
            owner = find_owner(text, runs=runs_root())
        except SlurmMissingError:
            raise unknown from None
        if isinstance(owner, list):
            if owner:
                return owner
            nothing = f"{unknown.message}, and no job {text} in the queue"
            raise UsageError(nothing, hint=unknown.hint) from None
        note(f"job {text} is of run {owner.name}/{owner.id}, in {owner.path}")
        return [str(owner.path)]
    return [text]
