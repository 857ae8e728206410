"""What a fine-tuning starts from: a network that is there, of this spec's shape and process, and what of it learns."""

from dataclasses import dataclass
from pathlib import Path

from sedd.errors import CheckpointError, DataError, SeddError
from sedd.finetune.fitting import FREEZE_HINT, count, differences, freezing_problem, trained_shapes
from sedd.finetune.parent import Parent, find_parent, kept_in, read_parent, same_name_hint
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.rundir.best import UndecidedError, is_over
from sedd.rundir.layout import RunDir, is_run
from sedd.spec.experiment import Experiment
from sedd.units import format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    network: Path
    problem: str | None = None
    """Why the network, or what of it is to learn, is not what was meant."""
    differences: tuple[str, ...] = ()
    """In which it is another network than the spec's."""
    name: str | None = None
    """`name/id` of its run; None while that has no checkpoint."""
    step: int = 0
    trained: int = 0
    """Parameters that learn."""
    meant: str | None = None
    """What may have been meant instead, or what to write."""
    missing_store: Path | None = None
    """The parent's token store, where it is not there."""
    choice: str | None = None
    """Of a sweep: which of its runs is taken, and why."""
    is_training: bool = False
    """Whether its run has not ended, so that a later step may be there when the job starts."""
    is_early: bool = False
    """Whether the problem is that a sweep's best run is not known yet."""


def gather(context: CheckContext) -> Facts | None:
    if context.run is not None and any(context.run.checkpoints.glob("step-*.pt")):
        return None  # it goes on from a checkpoint of its own
    runs = [run for run in context.training_runs if run.training.init]
    found = [_look(run, context) for run in runs]
    return next((facts for facts in found if facts.problem or facts.differences), found[0] if found else None)


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        if facts.is_early:
            return warn(facts.problem, f"{facts.meant}; or submit with --after, when one was validated")
        names = "training.init names a run's folder, a checkpoint or an exported folder"
        return fail(facts.problem, facts.meant or names)
    if facts.differences:
        return fail(
            f"{facts.name}, step {facts.step}: {'; '.join(facts.differences)}",
            "model and diffusion must be the parent's: copy them from its spec.yaml",
        )
    if facts.name is None:
        return warn(
            f"{facts.network} has no checkpoint yet", "submit with --after, when its training has begun"
        )
    saw = f"{facts.name}, step {facts.step}; {format_count(facts.trained)} parameters learn"
    saw += f"; {facts.choice}" if facts.choice else ""
    if facts.missing_store:
        return warn(
            f"{saw}; what it forgets will not be measured: {facts.missing_store} is not there",
            "training.init.validation names the parent's token store",
        )
    if facts.is_training:
        return warn(
            f"{saw}; it is still training",
            "the job takes the newest step there is when it starts: with --after the last one",
        )
    return ok(saw)


def _look(experiment: Experiment, context: CheckContext) -> Facts:
    init = experiment.training.init
    assert init is not None
    if problem := freezing_problem(experiment):
        return Facts(network=init.network, problem=problem, meant=FREEZE_HINT)
    kept = kept_in(context.run.initial) if context.run is not None else None
    told: list[str] = []
    try:
        path = kept or find_parent(init.network, notify=told.append)
        parent = context.answers.once(("parent", path), lambda: read_parent(path)) if path else None
    except UndecidedError as e:
        return Facts(network=init.network, problem=e.message, meant=e.hint, is_early=e.is_early)
    except SeddError as e:
        is_better = (e.hint or "").startswith(("did you mean", "name ", "copy "))
        same_name = same_name_hint(init.network, context.folder, "training.init")
        meant = same_name or (e.hint if is_better else None)
        return Facts(network=init.network, problem=e.message, meant=meant)
    if parent is None:
        return Facts(network=init.network)
    if parent.conditions and (mismatch := _label_mismatch(parent, experiment)):
        return Facts(network=init.network, problem=f"{parent.run}: {mismatch[0]}", meant=mismatch[1])
    return Facts(
        network=init.network,
        differences=tuple(differences(parent, experiment)),
        name=parent.run,
        step=parent.step,
        trained=count(trained_shapes(experiment)),
        missing_store=_missing_store(parent, init.validation),
        choice=told[0] if told else None,
        is_training=kept is None and _is_training(parent.path),
    )


def _label_mismatch(parent: Parent, experiment: Experiment) -> tuple[str, str] | None:
    """Which of the parent's labels means something else in the spec's stores, and what to do."""
    from sedd.conditions.known import known_fields, label_mismatch, parse_known  # numpy: a tenth of a second
    from sedd.data.store import TokenStore

    if differences(parent, experiment):
        return None  # which comes first
    try:
        stores = [TokenStore.open(path) for path in experiment.data.stores]
        ours = known_fields(experiment.model.conditions, stores)
        return label_mismatch(parse_known(parent.conditions, parent.run), ours)
    except (DataError, CheckpointError, OSError):
        return None  # the checks data_store and labels say what is wrong with a store


def _is_training(checkpoint: Path) -> bool:
    """Whether a checkpoint belongs to a run that is still training."""
    run = RunDir(checkpoint.parent.parent)
    return checkpoint.parent == run.checkpoints and is_run(run) and not is_over(run)


def _missing_store(parent: Parent, given: Path | None) -> Path | None:
    store = given or parent.experiment.data.store
    return None if store.is_dir() else store


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    reads=(("training", "init", "network"),),
    of_request=True,
    catches="a network to fine-tune that is not there, or of another shape, alphabet, graph or noise; "
    "patterns that freeze nothing",
    takes="0.1 s",
    passing=Facts(
        network=Path("/runs/small"), name="small/20261122-193359-1a2b3c4d", step=200_000, trained=23_930_880
    ),
    failing=Facts(
        network=Path("/runs/small"),
        name="small/20261122-193359-1a2b3c4d",
        step=200_000,
        differences=("its model.hidden is 512, this spec's 768",),
    ),
)
