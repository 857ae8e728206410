"""What users do to runs that have no job yet: points of a sweep for which the site had no place."""

import datetime as dt
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.users import user_name
from sedd.launch.feed import Group, grouped, submit_what_fits
from sedd.launch.local_processes import find_members
from sedd.launch.predecessors import Needs, dependency_on, read_needs
from sedd.launch.protocol import names_of
from sedd.launch.resources import Parameters, read_manifest_profile, slurm_parameters
from sedd.launch.submit_local import submit_local
from sedd.launch.submit_slurm import confirm_submissions
from sedd.launch.unconfirmed import mark_unwanted, one_at_a_time, submitit_folders
from sedd.rundir.attempts import is_cancelled, is_unsubmitted
from sedd.rundir.events import append_event, read_events, require_undamaged
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.load import load_resolved


def confirm_all(runs: Sequence[RunDir]) -> None:
    """Record the jobs of submissions that were interrupted. Raises: as `confirm_submissions`."""
    for folder in sorted({folder for run in runs for folder in submitit_folders(run)}):
        confirm_submissions(folder)


def has_no_job(run: RunDir) -> bool:
    """Whether the run was never submitted, cancelled or not. Raises: RunError where a damaged event may say it was."""
    if any(e.event in ("submitted", "attempt_started") for e in read_events(run.events)):
        return False
    require_undamaged(run.events)
    return True


def cancel_unsubmitted(runs: Sequence[RunDir], *, now: dt.datetime) -> dict[RunDir, bool]:
    """Cancel those of the runs that have no job: nobody submits them any more. Whether each was not cancelled before.

    A job that SLURM may have for one without having said so ends when it starts, or when SLURM answers another command.

    Raises:
        RunError: an event cannot be written.
    """
    return {run: _cancel(run, now) for run in runs if has_no_job(run)}


def _cancel(run: RunDir, now: dt.datetime) -> bool:
    folder = submitit_folders(run)[0]
    with one_at_a_time(folder):
        mark_unwanted(folder, run)
        events = read_events(run.events)
        if is_cancelled(events) or not is_unsubmitted(events):
            return False
        append_event(run.events, "cancelled", attempt=0, now=now, by=user_name(os.geteuid()), over=True)
        return True


def submit_unsubmitted(runs: Sequence[RunDir]) -> dict[RunDir, str | None]:
    """Submit those of the runs that have no job, as far as the site takes them; why each still waits, or None.

    Raises:
        SeddError: SLURM refuses for another reason, or does not answer; some may have been submitted.
    """
    reasons: dict[RunDir, str | None] = {}
    ours = [run for run in runs if has_no_job(run)]
    for folder in dict.fromkeys(submitit_folders(run)[0] for run in ours):
        members = [run for run in ours if submitit_folders(run)[0] == folder]
        profile = read_manifest_profile(members[0])
        why = None
        if isinstance(profile, SlurmProfile):
            depend = functools.cache(lambda needs: dependency_on(needs, executor="slurm"))
            groups = grouped([(_parameters(run, profile, folder, depend), run) for run in members])
            why = submit_what_fits(
                [Group(parameters=parameters, runs=group) for parameters, group in groups],
                runs=members,
                profile=profile,
                folder=folder,
                is_wanted=has_no_job,
            )
        else:
            with one_at_a_time(folder) as lock:
                if left := [run for run in members if has_no_job(run) and not find_members(run)]:
                    submit_local(left, keeps_open=[lock])
        reasons |= {run: why if has_no_job(run) else None for run in members}
    return reasons


def _parameters(
    run: RunDir, profile: SlurmProfile, submitit: Path, depend: Callable[[Needs], str | None]
) -> Parameters:
    return slurm_parameters(
        load_resolved(run.spec),
        profile,
        code=submitit.parent / "code",
        submitit=submitit,
        names=names_of(run),
        parallel=read_manifest(run).get("parallel"),
        dependency=depend(read_needs(run)),
    )
