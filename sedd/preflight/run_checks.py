"""Run the checks of one side; each gives a finding in time, whatever happens in the others."""

import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sedd.cluster.profile import Profile
from sedd.errors import SeddError
from sedd.preflight.check import Check, checks_of
from sedd.preflight.context import Answers, CheckContext, Side, real_slurm
from sedd.preflight.find_fault import find_fault
from sedd.preflight.finding import Finding, Status, Verdict, fail, later, unknown
from sedd.preflight.read.device import use_training_device
from sedd.preflight.show.merge_findings import Answer, merge
from sedd.preflight.sweep_groups import sweep_groups
from sedd.rundir.find import runs_root
from sedd.rundir.layout import RunDir
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec

LOGIN_LIMIT_S = 4.0
"""All login checks together: they run side by side."""
NODE_LIMIT_S = 60.0
"""One node check: they run one after another, lest they disturb each other's measurements."""


def check_login(
    request: Request,
    profile: Profile,
    *,
    runs: Path,
    answers: Answers | None = None,
    only: Collection[str] | None = None,
    awaited: Mapping[Path, str] | None = None,
    changed: RunDir | None = None,
) -> tuple[Finding, ...]:
    """Will these runs come to their end there? Asked where they are submitted, without torch, within 5 s.

    One finding a check, whatever the number of runs; `only` names the checks that are wanted. `answers` is shared by
    the requests of one command: what one has asked of SLURM or measured holds for the next. `awaited` are files and
    folders that other stages of a plan make, and the stage that makes each: what looks at them is LATER.
    `changed` is the run that the request changes; None for a new run.
    """
    answers = answers or Answers()
    contexts = [
        CheckContext(
            side=Side.LOGIN,
            experiment=group.experiment,
            profile=profile.for_job(gpus_per_node=group.experiment.resources.gpus_per_node),
            folder=runs.absolute(),
            environ=os.environ,
            slurm=real_slurm(answers),
            answers=answers,
            request=request.experiments,
            parallel=request.parallel,
            point=group.point,
            changed=changed,
            awaited=awaited or {},
        )
        for group in sweep_groups(request)
    ]
    checks = checks_of(Side.LOGIN, type(request.experiments[0]))
    wanted = {name: check for name, check in checks.items() if only is None or name in only}
    return side_by_side(wanted, contexts, limit_s=LOGIN_LIMIT_S)


def check_node(
    experiment: TaskSpec,
    profile: Profile,
    run: RunDir | None,
    *,
    ranks_size: int,
    rank: int,
    local_rank: int,
) -> tuple[Finding, ...]:
    """Will this job run to its end here? Asked by every rank on its node before the first step.

    `run` is None for a look at this machine without a job.
    """
    context = CheckContext(
        side=Side.NODE,
        experiment=experiment,
        profile=profile,
        folder=run.path if run else runs_root(),
        environ=os.environ,
        run=run,
        rank=rank,
        ranks_size=ranks_size,
        local_rank=local_rank,
    )
    return in_turn(checks_of(Side.NODE, type(experiment)), [context], limit_s=NODE_LIMIT_S)


def side_by_side(
    checks: Mapping[str, Check[Any]], contexts: Sequence[CheckContext], *, limit_s: float
) -> tuple[Finding, ...]:
    """The findings of checks that run at the same time, each on all contexts; `limit_s` for all of them."""
    deadline = time.monotonic() + limit_s
    inquiries = [_start(name, check, contexts) for name, check in checks.items()]
    return _findings(inquiry.wait(deadline, limit_s) for inquiry in inquiries)


def in_turn(
    checks: Mapping[str, Check[Any]], contexts: Sequence[CheckContext], *, limit_s: float
) -> tuple[Finding, ...]:
    """The findings of checks that run one after another, `limit_s` or its own limit for each."""
    found: dict[str, Finding | None] = {}
    for name, check in sorted(checks.items(), key=lambda item: not item[1].before_cuda):
        own_limit_s = check.limit_s or limit_s
        found[name] = _start(name, check, contexts).wait(time.monotonic() + own_limit_s, own_limit_s)
    return _findings(found[name] for name in checks)


@dataclass(slots=True)
class _Inquiry:
    """A check that is being run in a thread of its own, which a hanging file system or driver may keep."""

    name: str
    done: threading.Event = field(default_factory=threading.Event)
    answers: list[Answer] = field(default_factory=list)

    def wait(self, deadline: float, limit_s: float) -> Finding | None:
        """Its finding at the deadline at the latest; None where the question does not arise."""
        is_done = self.done.wait(max(0.0, deadline - time.monotonic()))
        answers = list(self.answers)
        if not is_done:
            late = unknown(f"no answer within {limit_s:g} s", "look again when it is less busy")
            answers.append(Answer(verdict=late, point=""))
        return merge(self.name, answers)


def _start(name: str, check: Check[Any], contexts: Sequence[CheckContext]) -> _Inquiry:
    inquiry = _Inquiry(name)

    def inquire() -> None:
        try:
            if not check.before_cuda:
                use_training_device(contexts[0])
            for context in contexts[:1] if check.of_request else contexts:
                if verdict := _verdict(check, context):
                    inquiry.answers.append(Answer(verdict=verdict, point=context.point))
        finally:
            inquiry.done.set()

    # A daemon: a thread that hangs in the kernel must not keep the command from ending.
    threading.Thread(target=inquire, name=f"preflight-{name}", daemon=True).start()
    return inquiry


def _verdict(check: Check[Any], context: CheckContext) -> Verdict | None:
    """The check's verdict; whatever it raises means that it could not look."""
    try:
        if verdict := _awaited_verdict(check, context):
            return verdict
        facts = check.gather(context)
        if facts is None:
            return None
        return _with_plain_paths(_with_fault(check.judge(facts), check, context), context)
    except SeddError as e:
        return Verdict(Status.UNKNOWN, e.message.splitlines()[0], e.hint)
    except Exception as e:  # a check that breaks must not stop the others, nor hide what they found
        lines = str(e).strip().splitlines()
        return unknown(f"could not look: {type(e).__name__}: {lines[0] if lines else ''}".rstrip(": "))


def _with_plain_paths(verdict: Verdict, context: CheckContext) -> Verdict:
    """The verdict with the specs' paths as people write them: `/x/runs` for `/x/jobs/../runs`."""
    if "/../" not in f"{verdict.saw}{verdict.hint}":
        return verdict
    named = {
        str(path) for run in context.runs_together for path in run.paths().values() if ".." in path.parts
    }
    saw, hint = verdict.saw, verdict.hint
    for path in sorted(named, key=len, reverse=True):
        plain = os.path.normpath(path)
        if os.path.realpath(plain) == os.path.realpath(path):  # else a link is on the way: `..` is elsewhere
            saw, hint = saw.replace(path, plain), hint.replace(path, plain) if hint else hint
    return replace(verdict, saw=saw, hint=hint)


def _with_fault(verdict: Verdict, check: Check[Any], context: CheckContext) -> Verdict:
    """The verdict; where a check of a node has failed, with whose fault that is."""
    if verdict.status is not Status.FAIL or context.side is not Side.NODE:
        return replace(verdict, fault=None)
    fault = verdict.fault or check.fault
    assert fault is not None, "every check of a node says whose fault it finds"
    return replace(verdict, fault=find_fault(fault, check.paths(context), context))


def _awaited_verdict(check: Check[Any], context: CheckContext) -> Verdict | None:
    """What is known of a check some of whose files another stage makes; None: all must be there, the check looks."""
    paths = check.paths(context) if context.awaited else []
    makers = dict.fromkeys(stage for path in paths if (stage := context.maker_of(path)))
    if not makers:
        return None
    absent = [path for path in paths if context.maker_of(path) is None and not path.exists()]
    if absent:
        return fail(f"{absent[0]} does not exist", "no stage of the plan makes it")
    word = "stage" if len(makers) == 1 else "stages"
    return later(f"made by {word} {', '.join(makers)}; looked at when this stage starts")


def _findings(found: Iterable[Finding | None]) -> tuple[Finding, ...]:
    return tuple(finding for finding in found if finding is not None)
