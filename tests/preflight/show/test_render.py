"""Findings at 80 columns."""

from rich.console import Console

from sedd.preflight.finding import Finding, Status
from sedd.preflight.show.render import conclusion, failures_again, findings_table

FINDINGS = (
    Finding(check="disk_space", status=Status.OK, saw="90.0 GiB free in /scratch/runs", hint="never shown"),
    Finding(
        check="torch_wheel",
        status=Status.FAIL,
        saw="torch has no kernels for v100 (sm_70): " + "only " * 20,
        hint="pip install torch",
    ),
    Finding(check="partition", status=Status.UNKNOWN, saw="scontrol did not answer within 3 s [bold]"),
)


def shown(renderable) -> str:
    console = Console(width=80, record=True, force_terminal=False, file=None, quiet=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_table_fits_80_columns_and_hints_only_at_what_is_not_ok():
    text = shown(findings_table(FINDINGS))
    assert max(map(len, text.splitlines())) <= 80
    assert "→ pip install torch" in text
    assert "never shown" not in text
    assert "[bold]" in text  # what was seen is text, not markup


def test_the_same_advice_is_given_once():
    silent = [Finding(check=name, status=Status.UNKNOWN, saw="no scontrol", hint="load it") for name in "abc"]
    text = shown(findings_table(silent))
    assert (text.count("no scontrol"), text.count("→ load it")) == (3, 1)


def test_conclusion_counts_and_decides():
    assert shown(conclusion(FINDINGS)).strip() == "NOT READY (1 OK, 1 FAIL, 1 UNKNOWN)"
    assert shown(conclusion(FINDINGS[:1])).strip() == "READY TO TRAIN (1 OK)"
    assert shown(conclusion(FINDINGS[:1], trains=False)).strip() == "READY TO RUN (1 OK)"
    warned = (Finding(check="clock", status=Status.WARN, saw="x"),)
    assert shown(conclusion(warned)).startswith("READY TO TRAIN")
    assert shown(conclusion(warned, strict=True)).startswith("NOT READY")


def test_what_failed_is_repeated_below_a_table_that_is_longer_than_the_screen():
    named = [("first", FINDINGS[1]), ("first", FINDINGS[0]), ("second", FINDINGS[1]), ("second", FINDINGS[2])]
    assert failures_again(named, printed=23, height=24) is None
    text = shown(failures_again(named, printed=24, height=24))
    assert (text.count("FAIL"), text.count("UNKNOWN"), text.count("OK")) == (1, 0, 0)
    assert "(stage first, second)" in " ".join(text.split())
    warned = [("", Finding(check="clock", status=Status.WARN, saw="[bold]late", hint="x"))]
    assert failures_again(warned, printed=99, height=24) is None
    assert shown(failures_again(warned, printed=99, height=24, strict=True)).split() == [
        "WARN",
        "clock",
        "[bold]late",
    ]
