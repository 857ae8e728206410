"""Write the README's table of checks from the checks: `python -m sedd.preflight.show.readme`."""

from pathlib import Path
from typing import Any

from sedd.preflight.check import Check, all_checks

README = Path(__file__).parents[1] / "README.md"
_BEGIN, _END = "<!-- checks: written by `python -m sedd.preflight.show.readme` -->", "<!-- end of checks -->"


def renewed(text: str) -> str:
    """The README's text with the table as it should be."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{checks_table()}\n{_END}{after}"


def checks_table() -> str:
    """Markdown: check, side, what it catches, how that looks, whose fault it is on a node, its time."""
    rows = [_row(name, check) for name, check in all_checks().items()]
    return "\n".join(
        ["| check | side | catches | how it looks | at fault | time |", "|---|---|---|---|---|---|", *rows]
    )


def _row(name: str, check: Check[Any]) -> str:
    verdict = check.judge(check.failing)
    looks = f"{verdict.status}: {verdict.saw}".replace("|", "\\|")
    at_fault = check.fault or ""
    return f"| `{name}` | {', '.join(check.sides)} | {check.catches} | {looks} | {at_fault} | {check.takes} |"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
