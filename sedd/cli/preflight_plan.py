"""`sedd preflight plan.yaml`: will every stage of the plan run to its end here?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from sedd.cli.console import out, print_json, show
from sedd.cli.submit_plan import site_of
from sedd.cluster.profile import load_profile
from sedd.experiments.plan_graph import Graph, build_graph
from sedd.experiments.plan_text import foreseen_lines
from sedd.experiments.stages import Step
from sedd.experiments.submit_plan import Site, foresee, resolver_for
from sedd.preflight.context import Answers
from sedd.preflight.finding import Finding, has_failures
from sedd.preflight.run_checks import check_login
from sedd.preflight.show.render import conclusion, counted, failures_again, findings_table
from sedd.rundir.plan_record import find_own_plan
from sedd.spec.experiment import Experiment
from sedd.spec.plan import load_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A stage, and what the checks found; nothing where all its runs are there already."""

    step: Step
    findings: Sequence[Finding]


def preflight_plan(path: Path, cluster: Path | None, *, strict: bool, as_json: bool) -> None:
    """Check each stage that `sedd submit` would make. Ends the command with exit code 1 when one cannot run.

    Raises:
        SpecError: the plan, or the spec of a stage, does not hold together.
    """
    graph = build_graph(load_plan(path))
    site = site_of(load_profile(cluster, spec=path))
    checked = _check(graph, site)
    is_ready = not any(has_failures(stage.findings, strict=strict) for stage in checked)
    if as_json:
        print_json(_document(graph, checked, is_ready=is_ready))
    else:
        _print(graph, checked, strict=strict)
    if not is_ready:
        raise typer.Exit(1)


def _check(graph: Graph, site: Site) -> list[Checked]:
    steps = foresee(resolver_for(graph, site, before=find_own_plan(graph.name, site.runs)))
    answers = Answers()  # what is true of the site is asked once for all stages
    return [
        Checked(
            step=step,
            findings=()
            if step.missing is None
            else check_login(
                step.missing.request, site.profile, runs=site.runs, answers=answers, awaited=step.awaited
            ),
        )
        for step in steps
    ]


def _print(graph: Graph, checked: Sequence[Checked], *, strict: bool) -> None:
    """The stages, the findings of each, and the verdict; a finding that several stages share is printed once."""
    for line in foreseen_lines(graph, [stage.step for stage in checked]):
        show(line)
    if all(stage.step.missing is None for stage in checked):
        show(
            f"\nNOTHING TO CHECK: all runs of this plan are there already; sedd status {graph.name} shows them"
        )
        return
    console, lines = out(), 0
    printed = set[Finding]()
    for stage in checked:
        if stage.step.missing is None:
            continue
        new = [finding for finding in stage.findings if finding not in printed]
        shared = [finding for finding in stage.findings if finding in printed]
        printed |= set(new)
        console.print(Text(f"\n{stage.step.stage.name}", style="bold"))
        if new:
            table = findings_table(new)
            console.print(table)
            lines += len(console.render_lines(table))
        if shared:
            show(f"and as above: {counted(shared)}")
    failed = [s.step.stage.name for s in checked if has_failures(s.findings, strict=strict)]
    missing = [stage.step.missing for stage in checked if stage.step.missing]
    trains = any(isinstance(run, Experiment) for each in missing for run in each.request.experiments)
    findings = [finding for stage in checked for finding in stage.findings]
    named = [(stage.step.stage.name, finding) for stage in checked for finding in stage.findings]
    if again := failures_again(named, printed=lines, height=console.height, strict=strict):
        console.print("\nwhat failed, once more:")
        console.print(again)
    verdict = conclusion(findings, strict=strict, trains=trains)
    console.print(Text("\n").append_text(verdict).append(f": {', '.join(failed)}" if failed else ""))


def _document(graph: Graph, checked: Sequence[Checked], *, is_ready: bool) -> dict[str, Any]:
    return {
        "ready": is_ready,
        "side": "login",
        "plan": graph.name,
        "stages": [
            {
                "name": stage.step.stage.name,
                "missing": len(stage.step.missing.numbers) if stage.step.missing else 0,
                "findings": [finding.as_json() for finding in stage.findings],
            }
            for stage in checked
        ],
    }
