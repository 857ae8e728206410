"""Findings at 80 columns."""

from rich.console import Console

from sedd.preflight.finding import Finding, Status
from sedd.preflight.show.render import conclusion, findings_table

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
