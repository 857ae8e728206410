"""The first batch that this machine reads, and whether it is the one that the login node read."""

import contextlib
import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from sedd.data.manifest import read_manifest as read_store_manifest
from sedd.errors import DataError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.batch_hash import first_batch
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.experiment import Experiment

_CLOCKS_DIFFER = dt.timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    store: Path
    here: str
    at_submit: str | None
    """As the login node read it; None: it was not asked to."""
    is_newer: bool = False
    """Whether the store was built after the run was submitted."""


def gather(context: CheckContext) -> Facts | None:
    if context.rank != 0:
        return None
    at_submit = read_manifest(context.run).get("first_batch") if context.run else None
    try:
        found = [first_batch(experiment, context.answers) for experiment in _asked(context)]
    except (DataError, OSError):  # the check `data_store` says so
        return None
    store = context.training_run.data.store
    is_newer = context.run is not None and any(
        _is_newer(path, context.run) for path in context.training_run.data.stores
    )
    return Facts(store=store, here=found[0], at_submit=at_submit, is_newer=is_newer)


def judge(facts: Facts) -> Verdict:
    if facts.at_submit is None:
        return ok(f"read; its checksum is {facts.here}")
    if facts.at_submit != facts.here:
        if facts.is_newer:
            return fail(
                f"{facts.store} was built again after the submission: the checksum of its first batch is "
                f"{facts.here}, and was {facts.at_submit}",
                "submit again: a run is trained on one version of its data",
                Fault.JOB,
            )
        return fail(
            f"{facts.store} is not what the login node read: checksum of the first batch {facts.here}, "
            f"there {facts.at_submit}",
            "the data changed since, or this node sees other data: look with sedd data info on both, submit again",
        )
    return ok(f"the same as on the login node; its checksum is {facts.here}")


def _is_newer(store: Path, run: RunDir) -> bool:
    """Whether a store was built after its run was submitted, by more than clocks differ.

    By what the store itself says: a copy of it on this node, which may be damaged, has newer files.
    """
    created = read_manifest(run).get("created")
    if not created:
        return False
    with contextlib.suppress(ValueError, TypeError):  # of a store that another program wrote
        built = dt.datetime.fromisoformat(read_store_manifest(store).created)
        return built > dt.datetime.fromisoformat(created) + _CLOCKS_DIFFER
    return False


def _asked(context: CheckContext) -> tuple[Experiment, ...]:
    """On the login side all runs of the request: each has a seed of its own, and its node will want to know."""
    return context.training_runs if context.side is Side.LOGIN else (context.training_run,)


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.NODE,
    reads=(("data",),),
    of_request=True,
    catches="a node that reads other data than the login node did; data swapped after the submission",
    takes="0.1 s",
    passing=Facts(store=Path("/data/uniref50"), here="9f2c41d08a7be365", at_submit="9f2c41d08a7be365"),
    failing=Facts(store=Path("/data/uniref50"), here="03bb7e15c9d4f2a8", at_submit="9f2c41d08a7be365"),
)
