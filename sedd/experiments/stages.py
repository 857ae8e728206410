"""Stage after stage of a plan: which of its runs are there already, and what the others are to be made from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import SpecError
from sedd.experiments.inputs import Inputs, difference, find_known, inputs_of, joined_key
from sedd.experiments.plan_graph import Graph, Stage
from sedd.experiments.values import VALUES, StageRuns, best_link
from sedd.halving.fellows import read_halving
from sedd.launch.predecessors import Needs
from sedd.rundir.attempts import is_completed
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.plan_record import PlanRecord, StageRecord
from sedd.spec.build import DataTask
from sedd.spec.experiment import validated_differently
from sedd.spec.load import Request
from sedd.spec.plan import Wait

NEW = "new"
"""Why a stage is made that the plan has not made before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Runs of a stage that are to be made: a request of their own.

    Attributes:
        numbers: which of the stage's runs they are.
        more: further fields of each run's manifest.
    """

    stage: str
    request: Request
    numbers: tuple[int, ...]
    more: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage, resolved.

    Attributes:
        missing: what is to be made of it; None where all its runs are there.
        why: why it is made: `NEW`, `spec changed`.
        awaited: files and folders that are not there yet, and the stage, of those that it needs, that makes each.
    """

    stage: Stage
    made: StageRuns
    missing: Missing | None
    why: str
    awaited: Mapping[Path, str]


Make = Callable[[Missing], Sequence[RunDir]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """How the stages of one plan are resolved.

    Attributes:
        folder: the plan's, below the root of all runs.
        settle: completes a request for the place where it runs: what is `auto` becomes a number.
        before: this user's newest record of the plan, for the reasons.
        any_code: a run that other code has made is as good.
        anew: whatever there is, all is made.
    """

    graph: Graph
    runs: Path
    settle: Callable[[Request], Request]
    before: PlanRecord | None = None
    any_code: bool = False
    anew: bool = False

    @property
    def folder(self) -> Path:
        return self.runs / self.graph.name

    def steps(self, make: Make) -> list[Step]:
        """All stages in their order; `make` gives the run folders of what is missing.

        Raises:
            SpecError: a stage's spec does not hold together.
        """
        steps: dict[str, Step] = {}
        for name, stage in self.graph.stages.items():
            steps[name] = self._step(stage, steps, make)
        return list(steps.values())

    def _step(self, stage: Stage, before: Mapping[str, Step], make: Make) -> Step:
        done = {name: step.made for name, step in before.items()}
        request = self.settle(self._request(stage, done))
        count = len(request.experiments)
        needs = [self._needs(stage, done, number) for number in range(count)]
        inputs = [self._inputs(stage, done, request, number) for number in range(count)]
        found = {n: run for n, each in enumerate(inputs) if each and (run := self._known(request, n, each))}
        numbers = tuple(n for n in range(count) if n not in found)
        missing = None
        if numbers:
            best = _links(stage, done)
            more = [
                {
                    "plan": self.graph.name,
                    "stage": stage.name,
                    "inputs": each.as_manifest() if each else None,
                    "best": best,
                    **needs[n].as_manifest(),
                    **_halving(request, n, found),
                }
                for n in numbers
                for each in (inputs[n],)
            ]
            missing = Missing(
                stage=stage.name, request=_part(request, numbers), numbers=numbers, more=tuple(more)
            )
            found |= zip(numbers, make(missing), strict=True)
        made = StageRuns(
            name=stage.name,
            runs=tuple(found[n] for n in range(count)),
            experiments=request.experiments,
            points=request.points,
            folder=self.folder,
        )
        return Step(
            stage=stage,
            made=made,
            missing=missing,
            why=self._why(stage, inputs[numbers[0]], numbers[0]) if numbers else "",
            awaited=_awaited([before[need] for need in stage.waits]),
        )

    def _request(self, stage: Stage, done: Mapping[str, StageRuns]) -> Request:
        """What the stage asks for, with the values of those before it."""

        def value_at(number: int) -> Callable[[str, str], str]:
            def value_of(other: str, what: str) -> str:
                at = number if self.graph.feeds_by_point(stage, other) else 0
                return str(VALUES[what].of(done[other], at))

            return value_of

        if stage.source.each is None:
            return stage.source.resolve(value_at(0))
        fed = done[stage.source.each]
        parts = [stage.source.resolve(value_at(number)) for number in range(len(fed.runs))]
        return Request(
            experiments=tuple(part.experiments[0] for part in parts),
            points=fed.points,
            parallel=None,
        )

    def _needs(self, stage: Stage, done: Mapping[str, StageRuns], number: int) -> Needs:
        """The runs that a run of the stage waits for."""
        kinds: dict[Wait, list[RunDir]] = {"afterok": [], "afterany": [], "on_failure": []}
        for need, wait in stage.waits.items():
            kinds[wait] += self._waited_for(stage, done[need], number)
        return Needs(
            completed=tuple(kinds["afterok"]),
            ended=tuple(kinds["afterany"]),
            failed=tuple(kinds["on_failure"]),
        )

    def _waited_for(self, stage: Stage, need: StageRuns, number: int) -> Sequence[RunDir]:
        return need.runs[number : number + 1] if self.graph.feeds_by_point(stage, need.name) else need.runs

    def _inputs(
        self, stage: Stage, done: Mapping[str, StageRuns], request: Request, number: int
    ) -> Inputs | None:
        """What a run of the stage is made from; None where a run before it is itself not made yet."""
        needs = {need: self._waited_for(stage, done[need], number) for need in stage.waits}
        if not all(run.manifest.exists() for runs in needs.values() for run in runs):
            return None
        return inputs_of(
            request.experiments[number],
            fellows=request if request.halving else None,
            needs={need: joined_key(runs) for need, runs in needs.items()},
            made=[*_products(done), self.folder],
        )

    def _known(self, request: Request, number: int, inputs: Inputs) -> RunDir | None:
        if self.anew:
            return None
        task = request.experiments[number]
        # The points of a halving sweep look at each other and let each other go on: all are one user's.
        of_others = request.halving is None
        run = find_known(task, inputs, self.runs, any_code=self.any_code, of_others=of_others)
        if (
            run is not None
            and isinstance(task, DataTask)
            and _is_completed(run)
            and not task.build.store.exists()
        ):
            return None  # what it has built was removed since
        return run

    def _why(self, stage: Stage, inputs: Inputs | None, number: int) -> str:
        """Why a run of the stage is made."""
        if self.anew:
            return "asked for anew"
        before = next((s for s in self.before.stages if s.name == stage.name), None) if self.before else None
        if before is None:
            return NEW
        if inputs is None:
            return "what it needs runs anew"
        if number >= len(before.runs) or not before.runs[number].manifest.exists():
            return NEW
        return difference(read_manifest(before.runs[number]).get("inputs"), inputs)


def record_of(graph: Graph, steps: Sequence[Step], folder: Path) -> PlanRecord:
    """What `plan.json` says of the stages."""
    stages = [
        StageRecord(
            name=step.stage.name,
            task=step.stage.task,
            runs=step.made.runs,
            waits=step.stage.waits,
            by_point=tuple(n for n in step.stage.waits if graph.feeds_by_point(step.stage, n)),
        )
        for step in steps
    ]
    return PlanRecord(name=graph.name, folder=folder, stages=tuple(stages))


def _part(request: Request, numbers: Sequence[int]) -> Request:
    return dataclasses.replace(
        request,
        experiments=tuple(request.experiments[n] for n in numbers),
        points=tuple(request.points[n] for n in numbers),
    )


def _halving(request: Request, number: int, found: Mapping[int, RunDir]) -> dict[str, Any]:
    """What a point that is made now must know of its halving sweep: its number, and the name, where others are made."""
    if request.halving is None:
        return {}
    known = next((halving for run in found.values() if (halving := read_halving(run))), None)
    place = {"points": len(request.experiments), "index": number}
    return {"halving": place | ({"group": known.group} if known else {})}


def _links(stage: Stage, done: Mapping[str, StageRuns]) -> dict[str, list[str]]:
    """The links to the best of several runs that the stage needs, and among which runs each chooses."""
    wanted = {r.stage for r in stage.source.references() if r.what == "best"}
    for name in sorted(wanted):
        # Stores may differ and hold the same proteins for validation: that is looked at when the best is chosen.
        if differing := [k for k in validated_differently(done[name].experiments) if k != "data.store"]:
            raise SpecError(
                f"stage '{stage.name}': ${{{name}.best}}: the runs of '{name}' differ in {' and '.join(differing)}; "
                "validations of different proteins cannot be compared",
                hint=f"write `each: {name}`, or choose by `sedd evaluate` on one file",
            )
    links = {best_link(done[name]): done[name].runs for name in sorted(wanted)}
    return {str(link): [str(run.path) for run in runs] for link, runs in links.items() if link}


def _products(done: Mapping[str, StageRuns]) -> list[Path]:
    """Files and folders that stages make."""
    stores = [t.build.store for made in done.values() for t in made.experiments if isinstance(t, DataTask)]
    return [*stores, *(run.path for made in done.values() for run in made.runs)]


def _awaited(needs: Sequence[Step]) -> dict[Path, str]:
    """What these stages, and those before them, are still to make."""
    found: dict[Path, str] = {}
    for step in needs:
        made, name = step.made, step.stage.name
        found |= step.awaited
        for run, task in zip(made.runs, made.experiments, strict=True):
            if not _is_completed(run):
                found[run.path] = name
                found |= {task.build.store: name} if isinstance(task, DataTask) else {}
        if (link := best_link(made)) and not link.exists():  # the first job that needs it makes it
            found[link] = name
    return found


def _is_completed(run: RunDir) -> bool:
    return run.manifest.exists() and is_completed(read_events(run.events))
