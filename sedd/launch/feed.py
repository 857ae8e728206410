"""As many of the waiting runs as the site takes now, in arrays that fit its limits.

How many that is, is read where it may be read (`cluster/submit_limits.py`), and otherwise found out by asking sbatch,
which submits nothing with --test-only.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import sbatch_test_only
from sedd.cluster.jobs import array_of
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.sbatch import SubmissionRefusedError
from sedd.cluster.site import SiteConfig, query_config, query_partitions
from sedd.cluster.submit_limits import (
    Limits,
    is_array_refusal,
    is_controller_full,
    is_limit_refusal,
    query_limits,
)
from sedd.errors import ClusterError
from sedd.launch.resources import Parameters, render_sbatch
from sedd.launch.submit_slurm import share_out, submit_array
from sedd.launch.submitted import describe_progress
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that ask for the same resources: what an array may hold."""

    parameters: Parameters
    runs: Sequence[RunDir]


def grouped(asked: Iterable[tuple[Parameters, Item]]) -> list[tuple[Parameters, list[Item]]]:
    """Runs, or what stands for them, by the parameters that they ask for."""
    groups: dict[str, tuple[Parameters, list[Item]]] = {}
    for parameters, item in asked:
        groups.setdefault(json.dumps(parameters, sort_keys=True), (parameters, []))[1].append(item)
    return list(groups.values())


def submit_what_fits(
    groups: Sequence[Group],
    *,
    runs: Sequence[RunDir],
    profile: SlurmProfile,
    folder: Path,
    is_wanted: Callable[[RunDir], bool],
) -> str | None:
    """Submit runs until all are submitted or the site takes no more; returns why the rest has to wait.

    `runs` are all of the sweep, with those submitted before: its limit on runs at a time is shared out over all arrays.
    Those that are not wanted any more when their turn comes, because somebody has cancelled them, are left out.

    Raises:
        SeddError: SLURM refuses for another reason or does not answer, a file cannot be written; what was submitted
            before that stays so.
    """
    if len(runs) == 1:
        return _submit_one(groups, profile, folder, is_wanted)
    if not groups:
        return None
    config = query_config()
    largest = max(1, config.max_array_size)
    limits = _query_limits(config, profile)
    free = limits.tightest.free if limits.tightest else None
    arrays = sum(-(-len(group.runs) // largest) for group in groups) + len(_arrays_under_way(runs))
    for group in groups:
        parameters, rest = share_out(group.parameters, arrays), list(group.runs)
        while rest:
            most = min(len(rest), largest, len(rest) if free is None else free)
            size, refusal = _largest_taken(most, parameters, folder)
            if size == 0:
                return _why(config, limits, refusal)
            try:
                submit_array(rest[:size], parameters, folder=folder, is_wanted=is_wanted)
            except SubmissionRefusedError as e:
                if is_limit_refusal(e.message):  # somebody was faster
                    return _why(config, limits, e.message)
                raise
            rest = rest[size:]
            free = None if free is None else free - size
    return None


def largest_taken(most: int, refusal_of: Callable[[int], str | None]) -> tuple[int, str | None]:
    """The largest size up to `most` that is not refused, by bisection, and the last refusal of a larger one."""
    taken, refused, reason = 0, most + 1, None
    size = most
    while refused - taken > 1:
        said = refusal_of(size)
        if said is None:
            taken = size
        else:
            refused, reason = size, said
        size = (taken + refused) // 2
    return taken, reason


def _submit_one(
    groups: Sequence[Group], profile: SlurmProfile, folder: Path, is_wanted: Callable[[RunDir], bool]
) -> str | None:
    """A run of its own: sbatch itself says whether there is a place."""
    try:
        for group in groups:
            submit_array(group.runs, group.parameters, folder=folder, is_wanted=is_wanted)
    except SubmissionRefusedError as e:
        if not is_limit_refusal(e.message):
            raise
        config = query_config()
        return _why(config, _query_limits(config, profile), e.message)
    return None


def _largest_taken(most: int, parameters: Parameters, folder: Path) -> tuple[int, str | None]:
    def refusal_of(size: int) -> str | None:
        try:
            sbatch_test_only(render_sbatch(parameters, submitit=folder, tasks=size))
        except SlurmUnreachableError:
            raise
        except ClusterError as e:
            # Other refusals are sbatch's to make: with --test-only it also refuses what has to wait for a node.
            return e.message if is_limit_refusal(e.message) or is_array_refusal(e.message) else None
        return None

    return largest_taken(most, refusal_of)


def _query_limits(config: SiteConfig, profile: SlurmProfile) -> Limits:
    """The limits, as far as this user may read them."""
    try:
        return query_limits(
            config,
            query_partitions(),
            partition=profile.partition,
            account=profile.account,
            qos=profile.qos,
        )
    except ClusterError:
        return Limits()


def _arrays_under_way(runs: Sequence[RunDir]) -> set[str]:
    """Arrays and jobs of a sweep that were submitted before, and have not ended."""
    found = set()
    for run in runs:
        events = read_events(run.events)
        jobs = [str(e.get("job_id")) for e in events if e.event == "submitted"]
        if jobs and describe_progress(events) not in (None, "completed"):
            found.add(array_of(jobs[-1]))
    return found


def _why(config: SiteConfig, limits: Limits, refusal: str | None) -> str:
    """Why the site takes no more now, with its number where that is known."""
    limit = limits.tightest
    if refusal is not None and is_controller_full(refusal) and config.max_job_count:
        return f"SLURM keeps {config.max_job_count} jobs of all users (MaxJobCount)"
    if limit is not None and (refusal is None or is_limit_refusal(refusal)):
        return f"the site allows {limit.allowed} at a time ({limit})"
    reason = (refusal or "").rpartition(": ")[2]
    return f"the site takes no more now ({reason})"
