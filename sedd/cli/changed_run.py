"""Preflight of a run whose spec is about to change: the checks of `sedd submit`, on the changed spec."""

from sedd.amend.extend import Check
from sedd.amend.spec_change import SpecChange
from sedd.cli.console import tell
from sedd.errors import RunError
from sedd.spec.load import Request

NOT_ASKED = {"duplicate_runs", "git_state"}
"""Of submitting a spec: this is the run itself, and keeps the code that it has."""


def check_of(is_wanted: bool) -> Check:
    """The login checks for a changed run; nothing where they are not wanted."""
    return _check if is_wanted else lambda change: None


def _check(change: SpecChange) -> None:
    """Tell what is remarkable. Raises: RunError with the first check that failed."""
    from sedd.preflight.finding import Status
    from sedd.preflight.run_checks import check_login

    request = Request(experiments=(change.experiment,), points=({},), parallel=None)
    runs = change.run.path.parent.parent
    findings = check_login(request, change.profile, runs=runs, changed=change.run)
    asked = [finding for finding in findings if finding.check not in NOT_ASKED]
    for finding in asked:
        if finding.status is Status.WARN:
            tell(f"preflight {finding.status}: {finding.check}: {finding.saw}")
    if failed := [finding for finding in asked if finding.status is Status.FAIL]:
        hint = f"{failed[0].hint}; --no-preflight does it all the same" if failed[0].hint else None
        raise RunError(f"{failed[0].check}: {failed[0].saw}", hint=hint)
