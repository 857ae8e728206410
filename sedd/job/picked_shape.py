"""A run whose spec has ranges of resources: its next job may have another shape, and a job's entry takes that over."""

import datetime as dt
import os

from pydantic import ValidationError

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.users import user_name
from sedd.errors import SpecError
from sedd.job.attempt import Task
from sedd.job.environment import TaskEnvironment
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import sealed_steps
from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec

PATIENCE_S = 6.0
"""For SLURM's answers about other shapes: the job that asks is being ended."""


def in_shape_of_job(experiment: TaskSpec, environment: TaskEnvironment) -> TaskSpec:
    """The spec with the nodes and GPUs of the job that this is, where its `gpus` leave them open. Pure.

    So a run cannot have other ranks than its job has tasks, whoever was killed between the two being written.

    Raises:
        SpecError: it cannot be trained on this many.
    """
    nodes, each = environment.nodes, environment.ranks_per_node
    asked = experiment.resources
    if asked.gpus is None or not nodes or not each or (nodes, each) == (asked.nodes, asked.gpus_per_node):
        return experiment
    data = experiment.model_dump(mode="json")
    data["resources"] |= {"nodes": nodes, "gpus_per_node": each}
    try:
        return type(experiment).model_validate(data)
    except ValidationError as e:
        reason = e.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(f"the job has {nodes} x {each} GPUs: {reason}") from e


def record_shape(task: Task) -> None:
    """Write a shape that was taken over into the run folder; rank 0 does so before its attempt begins.

    Raises:
        SeddError: a file cannot be written.
    """
    from sedd.amend.reshape import describe
    from sedd.amend.spec_change import Changes, plan_change, write_change

    asked = task.experiment.resources
    if asked.gpus is None or not isinstance(task.experiment, Experiment):
        return
    keys: Changes = {("resources", "nodes"): asked.nodes, ("resources", "gpus_per_node"): asked.gpus_per_node}
    change = plan_change(task.run, keys, origin=f"job {task.environment.job_id}")
    if change.experiment == change.earlier:
        return
    write_change(change)
    append_event(
        task.run.events,
        "reshaped",
        attempt=max((event.attempt for event in read_events(task.run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        earlier=describe(change.earlier, change.profile),
        shape=describe(change.experiment, change.profile),
        by=user_name(os.geteuid()),
    )


def next_shape(task: Task, profile: SlurmProfile) -> TaskSpec:
    """The spec for the next job of the run: in the shape that ends it first, where `resources.repick` wants that.

    Whatever goes wrong, and where SLURM takes too long, it is the shape that the run has.
    """
    experiment = task.experiment
    if not isinstance(experiment, Experiment) or not experiment.resources.repick:
        return experiment
    from sedd.soonest.choose import Wish, choose
    from sedd.soonest.shapes import in_shape

    saved = sealed_steps(task.run)
    wish = Wish(experiment=experiment, steps=max(1, experiment.steps - (saved[0] if saved else 0)))
    try:
        choice = choose(wish, profile, runs=task.run.path.parent.parent, patience_s=PATIENCE_S)
    except Exception as e:  # what other runs' files may do to it must not cost this run its next job
        print(f"the next job keeps this shape: {getattr(e, 'message', repr(e))}", flush=True)
        return experiment
    print(f"the next job: {choice.picked.shape}", flush=True)
    return in_shape(experiment, choice.picked.shape)
