"""The shapes that a job may have by its spec: a handful of GPU counts and time limits. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from sedd.cluster.profile import SlurmProfile
from sedd.spec.experiment import Experiment
from sedd.units import exact_duration, format_duration

MOST_COUNTS = 5
"""GPU counts that are looked at, the largest ones; with each with three time limits, and each a question to SLURM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """GPUs on nodes."""

    nodes: int
    gpus_per_node: int

    @property
    def gpus(self) -> int:
        """Of all nodes together."""
        return self.nodes * self.gpus_per_node

    def __str__(self) -> str:
        return f"{self.nodes} x {self.gpus_per_node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShape:
    """What a job asks for."""

    layout: Layout
    walltime_s: int

    def __str__(self) -> str:
        nodes, gpus = self.layout.nodes, self.layout.gpus_per_node
        plural = ("s" if nodes > 1 else "", "s" if gpus > 1 else "")
        return f"{nodes} node{plural[0]} x {gpus} GPU{plural[1]}, {format_duration(self.walltime_s)}"


def own_shape(experiment: Experiment, profile: SlurmProfile) -> JobShape:
    """What the spec asks for; of ranges the upper ends."""
    asked = experiment.resources
    layout = Layout(nodes=asked.nodes, gpus_per_node=asked.gpus_per_node)
    return JobShape(layout=layout, walltime_s=granted(asked.walltime, profile))


def granted(walltime_s: int, profile: SlurmProfile) -> int:
    """A time limit as the site grants it."""
    return min(walltime_s, profile.max_walltime or walltime_s)


def layouts(experiment: Experiment, *, most_per_node: int) -> list[Layout]:
    """The GPU counts of the spec's range that it can train on, fewest first, each on as few nodes as can be.

    The range's ends and the powers of two between them; left out are those that do not divide the micro-batches of a
    step, and with `training.reduction: ordered` those that are no power of two.
    """
    if experiment.resources.gpus is None:
        asked = experiment.resources
        return [Layout(nodes=asked.nodes, gpus_per_node=asked.gpus_per_node)]
    found = [_on_fewest_nodes(count, most_per_node) for count in _counts(experiment)]
    return [each for each in found if why_not(experiment, each) is None][-MOST_COUNTS:]


def left_out(experiment: Experiment, *, most_per_node: int) -> list[str]:
    """Why numbers of GPUs within the range are not among the layouts: `8 GPUs: …`."""
    found = [_on_fewest_nodes(count, most_per_node) for count in _counts(experiment)]
    reasons = [(each.gpus, why_not(experiment, each)) for each in found]
    return [f"{count} GPU{'s' if count > 1 else ''}: {reason}" for count, reason in reasons if reason]


def time_limits_s(
    bounds_s: tuple[int, int], *, whole_s: float, checkpoints_s: Iterable[float] = ()
) -> list[int]:
    """Time limits to look at: the shortest, a middle one, the one that lets the run end in it, and those asked for.

    `whole_s` is what the run needs in one piece, `checkpoints_s` what this many checkpoints need; whole minutes.
    """
    least, most = bounds_s
    wanted = {least, _between(math.sqrt(least * most), bounds_s), _between(whole_s, bounds_s)}
    return sorted(wanted | {_between(each, bounds_s) for each in checkpoints_s})


def in_shape(experiment: Experiment, shape: JobShape) -> Experiment:
    """The experiment with another shape. Raises: pydantic.ValidationError where it cannot have it."""
    data = experiment.model_dump(mode="json")
    data["resources"] |= {
        "nodes": shape.layout.nodes,
        "gpus_per_node": shape.layout.gpus_per_node,
        "walltime": exact_duration(shape.walltime_s),
    }
    return Experiment.model_validate(data)


def why_not(experiment: Experiment, layout: Layout) -> str | None:
    """Why the experiment cannot be trained in a layout; None: it can."""
    try:
        in_shape(experiment, JobShape(layout=layout, walltime_s=experiment.resources.walltime))
    except ValidationError as e:
        return e.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _counts(experiment: Experiment) -> list[int]:
    """The ends of the range, and the powers of two between them."""
    if experiment.resources.gpus is None:
        return []
    least, most = experiment.resources.gpus
    powers = (2**k for k in range(most.bit_length()))
    return sorted({least, most, *(n for n in powers if least <= n <= most)})


def _on_fewest_nodes(count: int, most_per_node: int) -> Layout:
    nodes = next(n for n in range(1, count + 1) if count % n == 0 and count // n <= max(1, most_per_node))
    return Layout(nodes=nodes, gpus_per_node=count // nodes)


def _between(seconds: float, bounds_s: tuple[int, int]) -> int:
    """Rounded up, to minutes or from an hour on to five of them, and into the bounds."""
    unit = 60 if seconds < 3600 else 300
    return int(min(max(math.ceil(seconds / unit) * unit, bounds_s[0]), bounds_s[1]))
