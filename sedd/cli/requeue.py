"""`sedd requeue`: revive runs, or move running ones."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from sedd.amend.reshape import Shape, reshape
from sedd.cli.changed_run import check_of, check_of_revival
from sedd.cli.console import tell_wait
from sedd.cli.for_each_run import Outcome, Refused, for_each, is_done
from sedd.cli.halving import wake_and_tell
from sedd.cli.options import Json, Preflight, Runs
from sedd.cli.soonest import Backfill, Soonest, pick_for_run, require_soonest
from sedd.errors import RunError, SeddError, UsageError
from sedd.experiments.requeue_plan import requeue_plan
from sedd.launch.liveness import RunStatus, query_run_status
from sedd.launch.requeue import Check, Requeued, requeue, submit_first
from sedd.launch.unsubmitted import confirm_all
from sedd.rundir.find import runs_root
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import find_plan, find_plans
from sedd.waiting import slow_waits_told


@slow_waits_told(tell_wait)
def command(
    runs: Runs,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs from now on, on all nodes together.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes from now on.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes from now on, on all nodes together: without GPUs.")
    ] = None,
    walltime: Annotated[
        str | None, typer.Option(help="Time limit of an attempt from now on, such as 24h.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Partition of SLURM from now on.")] = None,
    soonest: Soonest = False,
    backfill: Backfill = None,
    preflight: Preflight = True,
    as_json: Json = False,
) -> None:
    """Revive runs that gave up, were killed or cancelled; make running ones save and go on elsewhere.

    With another number of GPUs or nodes, a running one saves first, and a new job goes on from there; the batches stay
    what they are, and with training.reduction: ordered the bits do, too. A task of one process, as data, takes
    --walltime and --partition.

    Points of a sweep that were not submitted yet are submitted, as far as the site takes them. What is submitted again
    is checked first, as by sedd submit, unless it waits for other runs.

    A run that SLURM makes wait for two minutes after a requeue waits no longer. Of a plan only what has ended without
    completing goes on, in the order of its stages; what runs or waits is left alone.

    Example: sedd requeue uniref50-small --gpus 8 --nodes 2
    """
    now = dt.datetime.now(dt.UTC)
    shape = Shape(nodes=nodes, gpus=gpus, processes=processes, walltime=walltime, partition=partition)
    if soonest and shape.is_given:
        raise UsageError(f"{shape} says what --soonest is to pick", hint="give one of them")
    require_soonest(backfill, soonest)

    check = check_of_revival(preflight)

    def act(run: RunDir) -> Requeued:
        if soonest:
            return _in_soonest_shape(run, backfill, now, preflight=preflight, as_json=as_json)
        if shape.is_given:
            return reshape(run, shape, check=check_of(preflight), now=now)
        return requeue([run], now=now, check=check)[0]

    def together(found: Sequence[RunDir]) -> dict[RunDir, Outcome]:
        return {} if soonest or shape.is_given else _plans(runs, now, check) or _first(found)

    for_each(runs, act, word="requeued", as_json=as_json, together=together, is_over=is_done)


def _in_soonest_shape(
    run: RunDir, checkpoints: int | None, now: dt.datetime, *, preflight: bool, as_json: bool
) -> Requeued:
    is_running = query_run_status(run).status is RunStatus.RUNNING
    shape = pick_for_run(run, checkpoints=checkpoints, is_running=is_running, as_json=as_json)
    if shape is not None:
        return reshape(run, shape, check=check_of(preflight), now=now)
    if is_running:
        return Requeued(run=run, changed=False, detail="runs in the shape that ends first; left alone")
    result = requeue([run], now=now, check=check_of_revival(preflight))[0]
    return replace(result, detail=f"it has the soonest shape; {result.detail}")


def _plans(texts: Sequence[str], now: dt.datetime, check: Check | None) -> dict[RunDir, Outcome]:
    """Plans, where nothing else is named: what ended without completing goes on, what runs is left alone."""
    root, results = runs_root(), dict[RunDir, Outcome]()
    are_plans = all(find_plan(text, root) for text in texts)
    for plan in find_plans(texts, root) if are_plans else ():
        done = requeue_plan(plan, now=now, check=check)
        results |= {run: Refused(o) if isinstance(o, SeddError) else o for run, o in done.items()}
    return results


def _first(runs: Sequence[RunDir]) -> dict[RunDir, Outcome]:
    """What concerns several runs: points that wait at a rung and may pass it, points that were never submitted."""
    wake_and_tell(runs)
    return _submit_first(runs)


def _submit_first(runs: Sequence[RunDir]) -> dict[RunDir, Outcome]:
    """Points of a sweep that were never submitted become arrays; where the site has no place, that is a refusal."""
    try:
        confirm_all(runs)
        results = submit_first(runs)
    except SeddError:
        return {}  # each run by itself says what is wrong with it
    return {
        run: each if each.changed else Refused(RunError(f"run {run.id} is {each.detail}"))
        for run, each in results.items()
    }
