"""The stages of a plan in the order in which they can run, each checked against the others: pure."""

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sedd.complaints import Problem, in_line_order, raise_problems
from sedd.errors import SpecError, did_you_mean
from sedd.experiments.values import VALUES
from sedd.spec.load import Request
from sedd.spec.plan import PlanSource, Reference, StageSource, Wait
from sedd.spec.tasks import TASKS, task_of

STAND_IN = "/plan"
"""Where a value of another stage lies while a plan is only checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage and its place among the others.

    Attributes:
        axis: the stage from whose sweep its points come, itself perhaps; None: it is one run.
        size: how many runs it has.
        run_name: what its runs are called.
    """

    source: StageSource
    task: str
    axis: str | None
    size: int
    run_name: str

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def waits(self) -> Mapping[str, Wait]:
        return self.source.waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A plan that holds together; a stage comes after all that it needs."""

    name: str
    stages: Mapping[str, Stage]

    def feeds_by_point(self, stage: Stage, need: str) -> bool:
        """Whether point i of the stage waits for point i of the other alone, rather than for all its runs."""
        return stage.axis is not None and self.stages[need].axis == stage.axis


def build_graph(plan: PlanSource) -> Graph:
    """The graph of a plan.

    Raises:
        SpecError: with every problem, each with its line: unknown needs and values, cycles, ambiguous values; of a
            graph that holds together, what is wrong with the stages' own specs.
    """
    raise_problems(_wrong_needs(plan))
    order = _order(plan)
    axes: dict[str, str | None] = {}
    tasks = {name: _task(source) for name, source in plan.stages.items()}
    problems: list[Problem] = []
    for name in order:
        problems += _find_axis(plan, name, axes)
        problems += _wrong_values(plan, plan.stages[name], tasks, axes)
    raise_problems(problems)
    checked = _checked(plan, order)
    stages = {
        name: Stage(
            source=plan.stages[name],
            task=tasks[name],
            axis=axes[name],
            size=len(checked[axes[name] or name].experiments),
            run_name=checked[name].experiments[0].name,
        )
        for name in order
    }
    raise_problems(
        Problem(plan.document.where(("name",)), f"name: '{plan.name}' names the runs of stage '{name}', too")
        for name, stage in stages.items()
        if stage.run_name == plan.name
    )
    return Graph(name=plan.name, stages=stages)


def _task(source: StageSource) -> str:
    found = task_of(source.document)
    return next(name for name, task in TASKS.items() if task is found)


def _checked(plan: PlanSource, order: Sequence[str]) -> dict[str, Request]:
    """What each stage asks for, values aside. Raises: SpecError with what is wrong with all of their specs."""
    requests: dict[str, Request] = {}
    wrong: list[str] = []
    for name in order:
        try:
            requests[name] = plan.stages[name].resolve(lambda stage, what: f"{STAND_IN}/{stage}/{what}")
        except SpecError as e:
            wrong += e.message.splitlines()
    if wrong:
        raise SpecError("\n".join(in_line_order(wrong)))
    return requests


def _wrong_needs(plan: PlanSource) -> Iterator[Problem]:
    for name, source in plan.stages.items():
        for need in source.waits:
            if need not in plan.stages:
                field = "each" if need == source.each else "needs"
                where = _where_needed(plan, name, need)
                yield Problem(
                    where,
                    f"stages.{name}.{field}: there is no stage '{need}'",
                    did_you_mean(need, plan.stages),
                )


def _where_needed(plan: PlanSource, name: str, need: str) -> str:
    stage = plan.document.data["stages"][name]
    if need == stage.get("each"):
        return plan.document.where(("stages", name, "each"))
    needs = stage.get("needs") or ()
    label = needs.index(need) if isinstance(needs, list) else need
    return plan.document.where(("stages", name, "needs", label))


def _order(plan: PlanSource) -> list[str]:
    """The stages, each behind all that it needs. Raises: SpecError when some wait for each other."""
    sorter = graphlib.TopologicalSorter({name: list(s.waits) for name, s in plan.stages.items()})
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as e:
        circle: Sequence[str] = e.args[1][::-1]
        where = _where_needed(plan, circle[0], circle[1])
        raise SpecError(f"{where}: stages wait for each other: {' needs '.join(circle)}") from e


def _find_axis(plan: PlanSource, name: str, axes: dict[str, str | None]) -> Iterator[Problem]:
    """Note from whose sweep the stage's points come."""
    source = plan.stages[name]
    sweeps = "sweep" in source.document.data or any(change.key[0] == "sweep" for change in source.changes)
    axes[name] = name if sweeps else axes.get(source.each) if source.each else None
    if source.each is None:
        return
    where = plan.document.where(("stages", name, "each"))
    if sweeps:
        yield Problem(where, f"stages.{name} has a sweep of its own, and a run for each of {source.each}")
    elif axes[name] is None:
        yield Problem(where, f"stages.{name}.each: stage '{source.each}' is one run", "write it into needs")


def _wrong_values(
    plan: PlanSource, source: StageSource, tasks: Mapping[str, str], axes: Mapping[str, str | None]
) -> Iterator[Problem]:
    for reference in source.references():
        if problem := _wrong_value(plan, source, reference, tasks, axes):
            yield problem


def _wrong_value(
    plan: PlanSource,
    source: StageSource,
    asked: Reference,
    tasks: Mapping[str, str],
    axes: Mapping[str, str | None],
) -> Problem | None:
    shown = f"${{{asked.stage}.{asked.what}}}"
    if asked.stage not in plan.stages:
        return Problem(
            asked.where, f"{shown}: there is no stage '{asked.stage}'", did_you_mean(asked.stage, plan.stages)
        )
    if asked.stage not in source.waits:
        return Problem(
            asked.where, f"{shown}: stages.{source.name} does not need '{asked.stage}'", "add it to needs"
        )
    given = [name for name, value in VALUES.items() if tasks[asked.stage] in value.tasks]
    if asked.what not in given:
        what = f"{shown}: a stage with task {tasks[asked.stage]} has {', '.join(given)}"
        return Problem(asked.where, what, did_you_mean(asked.what, given))
    axis = axes.get(asked.stage)
    if axis is not None and axis != axes.get(source.name) and not VALUES[asked.what].of_many:
        of_many = [f"${{{asked.stage}.{name}}}" for name in given if VALUES[name].of_many]
        hint = " or ".join([f"write `each: {asked.stage}`", *of_many])
        return Problem(asked.where, f"{shown} is ambiguous: stage '{asked.stage}' has several runs", hint)
    return None
