"""Preflight of a run that exists: the checks of `sedd submit`, on its spec as it is, or as it shall be."""

import json
import threading
from collections.abc import Callable

from sedd.amend.extend import Check
from sedd.amend.spec_change import SpecChange
from sedd.cli.console import tell
from sedd.cluster.profile import Profile
from sedd.errors import RunError
from sedd.launch.predecessors import read_needs
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.attempts import is_completed
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import Request, load_resolved
from sedd.spec.task import TaskSpec

NOT_ASKED = {"duplicate_runs", "git_state"}
"""Of submitting a spec: this is the run itself, and keeps the code that it has."""


def check_of(is_wanted: bool) -> Check:
    """The login checks for a changed run; nothing where they are not wanted."""
    return _check if is_wanted else lambda change: None


def check_of_revival(
    is_wanted: bool, *, notify: Callable[[str], None] = tell
) -> Callable[[RunDir], None] | None:
    """The login checks for runs that are submitted again as they are; None where they are not wanted."""
    return _Revival(notify) if is_wanted else None


def require_ready(
    run: RunDir, spec: TaskSpec, profile: Profile, *, notify: Callable[[str], None] = tell
) -> None:
    """Tell what is remarkable of a run that is to go on as `spec` says. Raises: RunError, the first failed check."""
    from sedd.preflight.finding import Status
    from sedd.preflight.run_checks import check_login

    request = Request(experiments=(spec,), points=({},), parallel=None)
    findings = check_login(request, profile, runs=run.path.parent.parent, changed=run)
    asked = [finding for finding in findings if finding.check not in NOT_ASKED]
    for finding in asked:
        if finding.status is Status.WARN:
            notify(f"preflight {finding.status}: {finding.check}: {finding.saw}")
    if failed := [finding for finding in asked if finding.status is Status.FAIL]:
        hint = f"{failed[0].hint}; --no-preflight does it all the same" if failed[0].hint else None
        raise RunError(f"{failed[0].check}: {failed[0].saw}", hint=hint)


def _check(change: SpecChange) -> None:
    require_ready(change.run, change.experiment, change.profile)


class _Revival:
    """The checks of one command's runs: once for all that no check could tell apart, as points of a sweep."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify, self._lock = notify, threading.Lock()
        self._problems: dict[str, RunError | None] = {}

    def __call__(self, run: RunDir) -> None:
        """Raises: RunError with the first check that failed."""
        if _waits_for_others(run):
            return  # they may have to make what it reads
        from sedd.preflight.sweep_groups import key_of

        spec, profile = load_resolved(run.spec), read_manifest_profile(run)
        key = json.dumps([key_of(spec), profile.model_dump(mode="json")])
        with self._lock:  # checks run side by side, and measure
            if key not in self._problems:
                self._problems[key] = _problem_of(run, spec, profile, self._notify)
            problem = self._problems[key]
        if problem is not None:
            raise RunError(problem.message, hint=problem.hint)


def _problem_of(
    run: RunDir, spec: TaskSpec, profile: Profile, notify: Callable[[str], None]
) -> RunError | None:
    try:
        require_ready(run, spec, profile, notify=notify)
    except RunError as e:
        return e
    return None


def _waits_for_others(run: RunDir) -> bool:
    needs = read_needs(run)
    return not all(
        is_completed(read_events(need.events)) for need in (*needs.completed, *needs.ended, *needs.failed)
    )
