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


def conclusion(findings: Sequence[Finding], *, strict: bool = False, trains: bool = True) -> Text:
    """The last line: READY TO TRAIN (to RUN where nothing is trained) or NOT READY, and the count of findings."""
    if has_failures(findings, strict=strict):
        return Text(f"NOT READY ({counted(findings)})", style="bold red")
    return Text(f"READY TO {'TRAIN' if trains else 'RUN'} ({counted(findings)})", style="bold green")


def counted(findings: Sequence[Finding]) -> str:
    """`11 OK, 1 FAIL`."""
    counts = {status: sum(f.status is status for f in findings) for status in Status}
    return ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
