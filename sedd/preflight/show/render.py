"""Render findings as a table."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sedd.preflight.finding import Finding, Status, has_failures

_STYLES = {
    Status.OK: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.UNKNOWN: "magenta",
    Status.LATER: "blue",
}


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a finding: status, check, what was seen, and below it what to do, each advice once."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column("status", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("saw", overflow="fold")
    advised = set[str]()
    for finding in findings:
        saw = Text(finding.saw)
        if finding.hint and finding.status is not Status.OK and finding.hint not in advised:
            saw.append(f"\n→ {finding.hint}", style="cyan")
            advised.add(finding.hint)
        table.add_row(Text(finding.status.value, style=_STYLES[finding.status]), finding.check, saw)
    return table


def failures_again(
    named: Sequence[tuple[str, Finding]], *, printed: int, height: int, strict: bool = False
) -> Table | None:
    """What failed once more, below a table that is longer than the screen; None where all of it is in sight.

    Args:
        named: findings, each with its stage of a plan; "" without a plan.
        printed: lines of the table or tables; height: of the screen.
        strict: a WARN counts as a failure.
    """
    failed = [(stage, finding) for stage, finding in named if has_failures([finding], strict=strict)]
    if not failed or printed < height:
        return None
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for _ in ("status", "check"):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in dict.fromkeys(finding for _, finding in failed):
        stages = ", ".join(stage for stage, other in failed if other == finding and stage)
        saw = f"{finding.saw} (stage {stages})" if stages else finding.saw
        table.add_row(Text(finding.status.value, style=_STYLES[finding.status]), finding.check, Text(saw))
    return table


def conclusion(findings: Sequence[Finding], *, strict: bool = False, trains: bool = True) -> Text:
    """The last line: READY TO TRAIN (to RUN where nothing is trained) or NOT READY, and the count of findings."""
    if has_failures(findings, strict=strict):
        return Text(f"NOT READY ({counted(findings)})", style="bold red")
    return Text(f"READY TO {'TRAIN' if trains else 'RUN'} ({counted(findings)})", style="bold green")


def counted(findings: Sequence[Finding]) -> str:
    """`11 OK, 1 FAIL`."""
    counts = {status: sum(f.status is status for f in findings) for status in Status}
    return ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
