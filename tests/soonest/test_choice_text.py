"""A choice as a table of 80 columns, as lines and as JSON."""

import io
import json

from rich.console import Console

from sedd.soonest.choice_text import choice_document, choice_lines, choice_table
from sedd.soonest.choose import Choice
from sedd.soonest.forecast import Forecast, refused
from sedd.soonest.shapes import JobShape, Layout
from sedd.soonest.speed import Speed

LARGE = Layout(nodes=16, gpus_per_node=8)
DAYS = 86400.0 * 12 + 3600 * 23


def choice() -> Choice:
    picked = Forecast(
        shape=JobShape(layout=LARGE, walltime_s=86400 + 7200),
        wait_s=DAYS,
        training_s=DAYS,
        attempts=120,
        ends_s=2 * DAYS,
        gpu_s=128 * DAYS,
        efficiency=0.5,
    )
    no = refused(JobShape(layout=Layout(nodes=1, gpus_per_node=1), walltime_s=1800), "Invalid account")
    return Choice(
        picked=picked,
        forecasts=(no, picked),
        fixed=no,
        speed=Speed(residue_s=1e-5, parameters=1, source="measured, run small/x"),
        left_out=("6 GPUs: no power of two",),
    )


def test_the_table_fits_into_80_columns_and_marks_what_was_picked() -> None:
    screen = io.StringIO()
    Console(file=screen, width=80).print(choice_table(choice()))
    lines = screen.getvalue().splitlines()
    (picked,) = (line for line in lines if line.lstrip().startswith(">"))
    assert all(value in picked for value in ("16 x 8", "1d 2h", "12d 23h", "25d 22h", "39,808", "50%"))
    assert "…" not in screen.getvalue()
    assert any("refused" in line for line in lines)


def test_the_lines_say_what_was_chosen_what_it_would_be_otherwise_and_by_which_speed() -> None:
    text = "\n".join(choice_lines(choice()))
    for part in (
        "16 nodes x 8 GPUs",
        "after 120 jobs",
        "SLURM refuses it",
        "6 GPUs",
        "100 k residues/s",
        "small/x",
    ):
        assert part in text


def test_the_document_is_json_without_infinities() -> None:
    document = json.loads(json.dumps(choice_document(choice()), allow_nan=False))
    assert document["picked"]["nodes"] == 16
    assert document["fixed"]["ends_in_s"] is None
