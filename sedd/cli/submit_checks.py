"""What `sedd submit` checks before it submits, and what it prints of that."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

import typer

from sedd.cli.console import out, print_json, tell
from sedd.cluster.profile import Profile
from sedd.finetune.parent import require_whole
from sedd.launch.make_runs import Order
from sedd.model.size import parameter_count
from sedd.preflight.finding import Finding, Status, has_failures
from sedd.preflight.resolve_auto import resolve_auto
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec

NOT_SUBMITTED = (
    "Nothing was submitted: {name} would not run to its end. --no-preflight submits it all the same; "
    "it is checked again on its node."
)


class LoginChecks:
    """Preflight of one command's orders, one after the other: what is true of the site is asked, and told, once."""

    def __init__(self, *, as_json: bool, refusal: str = NOT_SUBMITTED) -> None:
        """`refusal`: what to tell of a spec that fails preflight; `{name}` in it becomes the spec's name."""
        from sedd.preflight.context import Answers

        self._answers, self._shown, self._as_json = Answers(), set[Finding](), as_json
        self._refusal = refusal

    def __call__(self, order: Order, *, awaited: Mapping[Path, str] | None = None) -> Order:
        """The order with what preflight found. Ends the command with exit code 1 when it could not run.

        `awaited`: files and folders that other stages of a plan make, and the stage that makes each.
        """
        from sedd.preflight.read.batch_hash import known_first_batch
        from sedd.preflight.run_checks import check_login

        findings = check_login(
            order.request, order.profile, runs=order.runs, answers=self._answers, awaited=awaited
        )
        if has_failures(findings):
            name = order.request.experiments[0].name
            _refuse(findings, self._refusal.format(name=name), as_json=self._as_json)
        remarkable = [finding for finding in findings if finding.status not in (Status.OK, Status.LATER)]
        for finding in remarkable:
            if finding not in self._shown:  # of several specs most of it is about the site
                tell(f"preflight {finding.status}: {finding.check}: {finding.saw}")
        self._shown |= set(remarkable)
        batches = [known_first_batch(experiment, self._answers) for experiment in order.request.experiments]
        return replace(order, findings=[asdict(finding) for finding in remarkable], first_batches=batches)


def resolved(request: Request, profile: Profile) -> Request:
    """The request with a number wherever it says auto.

    Raises:
        SpecError: as `resolve_auto`. UsageError: a training that would start from adapters alone.
    """
    require_whole(request.experiments)
    return resolve_auto(request, profile)


def parameters_of(experiment: TaskSpec) -> int | None:
    """Parameters of a training's network; None for other tasks."""
    return parameter_count(experiment.model) if isinstance(experiment, Experiment) else None


def print_ignored_variables(profile: Profile) -> None:
    """Warn of environment variables that do not reach the job; preflight, where it runs, does so itself."""
    from sedd.preflight.checks import environment

    verdict = environment.judge(environment.facts_of(os.environ, environment.reader_of(profile)))
    if verdict.status is Status.WARN:
        tell(f"{verdict.status}: environment: {verdict.saw}")


def _refuse(findings: Sequence[Finding], refusal: str, *, as_json: bool) -> NoReturn:
    from sedd.preflight.show.render import conclusion, findings_table

    if as_json:
        print_json({"runs": [], "findings": [asdict(finding) for finding in findings]})
    else:
        out().print(findings_table(findings))
        out().print(conclusion(findings))
        tell(refusal)
    raise typer.Exit(1)
