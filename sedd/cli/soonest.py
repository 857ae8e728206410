"""`--soonest`: what `submit` and `requeue` ask, print and take over of a choice of shape."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer

from sedd.amend.reshape import Shape
from sedd.cli.console import err, tell
from sedd.cluster.profile import SlurmProfile
from sedd.errors import UsageError
from sedd.launch.make_runs import Order
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.find import typed_name
from sedd.rundir.layout import RunDir, sealed_steps
from sedd.soonest.choice_text import choice_document, choice_lines, choice_table
from sedd.soonest.choose import Choice, Wish, choose, in_picked_shape, require_choice
from sedd.spec.load import load_resolved

Soonest = Annotated[
    bool,
    typer.Option(
        "--soonest", help="Pick GPUs and time limit from the spec's ranges: the shape that ends first."
    ),
]
Backfill = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --soonest: also time limits just enough for N checkpoints."),
]


def require_soonest(backfill: int | None, soonest: bool) -> None:
    """Raises: UsageError for `--backfill` alone, which would change nothing."""
    if backfill is not None and not soonest:
        raise UsageError("--backfill is about time limits that --soonest picks", hint="give both")


@dataclass
class Picker:
    """Picks the shape of each order of one command, and tells on stderr what it picked and why."""

    checkpoints: int | None
    as_json: bool
    documents: list[dict[str, Any]] = field(default_factory=list)
    """For `--json`: each choice."""

    def __call__(self, order: Order) -> Order:
        """The order in the shape that ends first; all points of a sweep have the same. Raises: SeddError."""
        experiments = order.request.experiments
        for each in experiments:
            require_choice(each, order.profile)
        experiment, profile = require_choice(experiments[0], order.profile)
        wish = Wish(experiment=experiment, steps=experiment.steps, checkpoints=self.checkpoints)
        choice = self._choose(wish, profile, order)
        shaped = in_picked_shape(experiments, choice.picked.shape)
        return replace(order, request=replace(order.request, experiments=shaped))

    def _choose(self, wish: Wish, profile: SlurmProfile, order: Order) -> Choice:
        choice = choose(wish, profile, runs=order.runs)
        self.documents.append({"name": wish.experiment.name} | choice_document(choice))
        if not self.as_json:
            show(choice)
        return choice


def pick_for_run(run: RunDir, *, checkpoints: int | None, is_running: bool, as_json: bool) -> Shape | None:
    """The shape in which what is left of a run ends first; None: the one that it has. Raises: SeddError."""
    try:
        experiment, profile = require_choice(load_resolved(run.spec), read_manifest_profile(run))
    except UsageError as e:
        if e.hint:  # of a submission, which names profile and ranges
            e.hint = f"name a shape: sedd requeue {typed_name(run)} --gpus N --walltime TIME"
        raise
    saved = sealed_steps(run)
    left = max(1, experiment.steps - (saved[0] if saved else 0))
    wish = Wish(experiment=experiment, steps=left, checkpoints=checkpoints, is_running=is_running)
    choice = choose(wish, profile, runs=run.path.parent.parent)
    if not as_json:
        show(choice)
    picked = choice.picked.shape
    if choice.picked is choice.fixed:
        return None
    return Shape(nodes=picked.layout.nodes, gpus=picked.layout.gpus, walltime=f"{picked.walltime_s}s")


def show(choice: Choice) -> None:
    """The table and the reasons, on stderr."""
    err().print(choice_table(choice))
    for line in choice_lines(choice):
        tell(line)
