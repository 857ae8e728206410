"""Submit what was asked for; where the site has no place for all of it, as much as it takes, and later the rest."""

import datetime as dt
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.cluster.identity import Mark
from sedd.cluster.profile import SlurmProfile
from sedd.errors import RunError, SeddError, UsageError
from sedd.launch.feed import Group, grouped, submit_what_fits
from sedd.launch.local_processes import find_members
from sedd.launch.make_runs import Order, add_points, make_runs, remove_runs
from sedd.launch.predecessors import Needs, dependency_on, read_needs
from sedd.launch.resources import (
    Parameters,
    local_parameters,
    render_sbatch,
    require_no_secrets,
    require_plain_path,
    slurm_parameters,
)
from sedd.launch.submit_local import submit_local
from sedd.launch.submit_slurm import confirm_submissions, with_comment
from sedd.launch.submitted import Unfinished
from sedd.launch.unconfirmed import find_notes, one_at_a_time
from sedd.rundir.attempts import is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest, run_id, write_manifest
from sedd.spec.load import load_resolved
from sedd.spec.task import TaskSpec
from sedd.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a submission came to.

    Attributes:
        runs: all runs of the order, submitted now, before, or not yet.
        count: how many were submitted now.
        waiting: those that are not submitted yet.
        why: why they wait; None where all are submitted.
        stopped_by: what ended it before the site had no more place: an error, or Ctrl-C.
    """

    runs: tuple[RunDir, ...]
    count: int
    waiting: tuple[RunDir, ...] = ()
    why: str | None = None
    stopped_by: SeddError | KeyboardInterrupt | None = None

    def __str__(self) -> str:
        """`101 of 300 submitted, 199 wait: the site allows 150 jobs at a time (…)`."""
        total, waiting = len(self.runs), len(self.waiting)
        verb = "wait" if waiting > 1 else "waits"
        rest = f", {waiting} {verb}: {self.why}" if waiting else ""
        return f"{total - waiting} of {total} submitted{rest}"


def submit(order: Order, *, now: dt.datetime, may_wait: bool = False) -> Submission:
    """Make the run folders and submit as many of them as the site takes.

    Where it takes none, the folders are removed again, unless `may_wait`: then all wait for a place.

    Raises:
        SeddError: nothing was submitted.
    """
    require_no_secrets(order.profile)
    require_plain_path(order.runs)
    if not isinstance(order.profile, SlurmProfile):
        for experiment in order.request.experiments:
            local_parameters(experiment, os.environ)
    dependency = dependency_on(Needs(completed=tuple(order.after)), executor=order.profile.executor)
    made: list[Path] = []
    try:
        batch = make_runs(order, now=now, made=made)
    except BaseException:
        remove_runs(made)
        raise
    runs = dict(enumerate(batch.runs))
    submission = _submit(order, batch.folder, runs, sorted(runs), dependency)
    if len(submission.waiting) < len(runs) or (may_wait and submission.stopped_by is None):
        return submission
    error = submission.stopped_by or RunError(
        f"nothing was submitted: {submission.why}", hint="--wait submits as places come free"
    )
    if not find_notes(batch.folder / "submitit"):
        remove_runs(made)
    elif isinstance(error, SeddError):
        stays = "the same command submits what was made; sedd cancel, then rm -r of its folder, removes it"
        error.hint = f"{error.hint}; {stays}" if error.hint else stays
    raise error


def resume(order: Order, unfinished: Unfinished, *, now: dt.datetime) -> Submission:
    """Submit what an earlier submission of the same order has left, with the code that it has frozen.

    Raises:
        UsageError: it was for another executor. SeddError: it cannot be known what was submitted.
    """
    folder, runs = unfinished.folder, dict(unfinished.runs)
    like = next(iter(runs.values()))
    manifest = read_manifest(like)
    if manifest.get("executor") != order.profile.executor:
        left = counted(len(unfinished.waiting), "run")
        raise UsageError(
            f"{left} of {folder.name} {'waits' if left == '1 run' else 'wait'} to be submitted with executor "
            f"{manifest.get('executor')}, not {order.profile.executor}",
            hint="repeat it with the --cluster of the first time; or --resubmit submits all of them anew",
        )
    confirm_submissions(folder / "submitit")
    order = _in_shape_of(order, like)
    added = add_points(order, folder, unfinished.missing, like=like, now=now)
    runs |= zip(unfinished.missing, added, strict=True)
    dependency = dependency_on(read_needs(like), executor=order.profile.executor)
    waiting = [n for n in sorted({*unfinished.waiting, *unfinished.missing}) if _is_waiting(runs[n], order)]
    for number in waiting:
        _keep_profile(runs[number], order)
    return _submit(order, folder, runs, waiting, dependency)


def render(order: Order, *, now: dt.datetime) -> str:
    """What `submit` would hand to the scheduler: batch scripts, or the local command. Touches nothing."""
    require_no_secrets(order.profile)
    require_plain_path(order.runs)
    experiments = order.request.experiments
    first = order.runs / experiments[0].name
    identity = run_id(now, experiments[0].hash())
    folder = first / (identity if len(experiments) == 1 else f"sweep-{identity}")
    dependency = dependency_on(Needs(completed=tuple(order.after)), executor=order.profile.executor)
    if isinstance(order.profile, SlurmProfile):
        mark = Mark(token=16 * "0", folder=str(folder))  # a submission draws its own
        return "\n".join(
            render_sbatch(with_comment(parameters, mark), submitit=folder / "submitit", tasks=len(members))
            for parameters, members in _groups(order, folder, range(len(experiments)), dependency)
        )
    for experiment in experiments:
        local_parameters(experiment, os.environ)
    runs = len(experiments)
    at_once = order.request.parallel or 1
    code, where = shlex.quote(str(folder / "code")), shlex.quote(str(folder))
    return (
        f"# {runs} run{'s, ' + str(at_once) + ' at a time,' if runs > 1 else ''} on this machine, in the background\n"
        f"PYTHONPATH={code} python -m sedd.launch.submit_local {where}{'…' if runs > 1 else ''}\n"
    )


def _submit(
    order: Order, folder: Path, runs: Mapping[int, RunDir], waiting: Sequence[int], dependency: str | None
) -> Submission:
    """Submit the waiting ones of an order's runs, which are given by number, as far as the site takes them."""
    why, stopped_by = None, None
    try:
        if isinstance(order.profile, SlurmProfile):
            groups = [
                Group(parameters=parameters, runs=[runs[n] for n in members])
                for parameters, members in _groups(order, folder, waiting, dependency)
            ]
            why = submit_what_fits(
                groups,
                runs=tuple(runs.values()),
                profile=order.profile,
                folder=folder / "submitit",
                is_wanted=lambda run: is_unsubmitted(read_events(run.events)),
            )
        elif waiting:
            _submit_here([runs[n] for n in waiting], order, folder)
    except (SeddError, KeyboardInterrupt) as e:
        stopped_by, why = e, e.message if isinstance(e, SeddError) else "interrupted"
    left = tuple(runs[n] for n in waiting if _is_waiting(runs[n], order))
    return Submission(
        runs=tuple(runs[n] for n in sorted(runs)),
        count=len(waiting) - len(left),
        waiting=left,
        why=why if left else None,
        stopped_by=stopped_by,
    )


def _in_shape_of(order: Order, like: RunDir) -> Order:
    """The order in the shape that an earlier submission picked from the same ranges."""
    made = load_resolved(like.spec).resources

    def shaped(experiment: TaskSpec) -> TaskSpec:
        picked = {field: getattr(made, field) for field in experiment.resources.picked_fields}
        return experiment.model_copy(update={"resources": experiment.resources.model_copy(update=picked)})

    experiments = tuple(shaped(experiment) for experiment in order.request.experiments)
    return replace(order, request=replace(order.request, experiments=experiments))


def _submit_here(runs: Sequence[RunDir], order: Order, folder: Path) -> None:
    """Start runs on this machine; those that a killed submission is still starting are waited for, and left out."""
    with one_at_a_time(folder / "submitit") as lock:
        if left := [run for run in runs if _is_waiting(run, order)]:
            submit_local(left, keeps_open=[lock])


def _groups(
    order: Order, folder: Path, numbers: Sequence[int], dependency: str | None
) -> list[tuple[Parameters, list[int]]]:
    """The experiments, by number, that ask for the same resources, and so can be tasks of one array."""
    experiments = order.request.experiments
    return grouped((_slurm_parameters(order, folder, dependency, experiments[n]), n) for n in numbers)


def _slurm_parameters(order: Order, folder: Path, dependency: str | None, experiment: TaskSpec) -> Parameters:
    assert isinstance(order.profile, SlurmProfile)
    return slurm_parameters(
        experiment,
        order.profile,
        code=folder / "code",
        submitit=folder / "submitit",
        parallel=order.request.parallel,
        dependency=dependency,
    )


def _is_waiting(run: RunDir, order: Order) -> bool:
    """Whether no job is known for the run, and no process of it lives here."""
    is_here = order.profile.executor != "slurm"
    return is_unsubmitted(read_events(run.events)) and not (is_here and find_members(run))


def _keep_profile(run: RunDir, order: Order) -> None:
    """Note the profile with which the run is submitted, where it is another than that of the first time."""
    manifest, profile = read_manifest(run), order.profile.model_dump(mode="json")
    if manifest.get("profile") != profile:
        write_manifest(run, manifest | {"profile": profile})
