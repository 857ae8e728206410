"""What became of a profile's `setup` lines in a job, as the batch script says it in a variable."""

from collections.abc import Mapping

from sedd.cluster.profile import SlurmProfile

FAILED = "SEDD_SETUP_FAILED"
"""Variable: line and exit code of the first line of `setup` that failed: `2 127`; line 0: no single one."""
ENDED = "SEDD_SETUP_ENDED"
"""Variable: set where `setup` ended the batch script, so that srun was never reached."""


def setup_failure(profile: SlurmProfile, environ: Mapping[str, str]) -> str | None:
    """Which line of `setup` failed in this job, in one sentence; None: none did."""
    number, _, code = environ.get(FAILED, "").partition(" ")
    if not (number.isdecimal() and code.isdecimal()):
        return None
    if number == "0":
        return f"setup: in the profile ended the batch script with exit code {code}"
    lines = [line for text in profile.setup for line in text.splitlines()]
    text = lines[int(number) - 1] if int(number) <= len(lines) else "…"
    return f"line {number} of setup: in the profile failed with exit code {code}: {text}"


def may_go_on(profile: SlurmProfile, environ: Mapping[str, str]) -> bool:
    """Whether the job may run in spite of what became of `setup`."""
    failure = setup_failure(profile, environ)
    return failure is None or not (profile.setup_must_succeed or ENDED in environ)
