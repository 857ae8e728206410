"""`task: command`: a user's program on proteins, what is made of its table, and that it ends when it has to."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from sedd.data.records import Record
from sedd.errors import DataError, MisfitError, RunError
from sedd.inference.user_command import proteins_of, read_column, render_found, run_program
from sedd.inference.work import WORK, Job
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.spec.command import CommandSpec, CommandTask
from sedd.training.faults import exit_of

FOLD = """
import sys
names = [line[1:].split()[0] for line in open(sys.argv[1]) if line.startswith(">")]
with open(sys.argv[2], "w") as out:
    out.write("name,pLDDT,note\\n")
    for number, name in enumerate(names):
        out.write(f"{name},{70 + 5 * number},x\\n")
"""


@pytest.fixture
def spec(tmp_path: Path) -> CommandSpec:
    (tmp_path / "fold it.py").write_text(FOLD)
    (tmp_path / "run/samples").mkdir(parents=True)
    (tmp_path / "run/samples/samples.fasta").write_text(">a one\nMKT\n>b two\nACDEF\n")
    run = (sys.executable, str(tmp_path / "fold it.py"), "{fasta}", "{out}")
    return CommandSpec(run=run, fasta=tmp_path / "run", column="pLDDT")


def nothing() -> None:
    pass


def test_the_column_of_a_program_joins_the_report(tmp_path: Path, spec: CommandSpec):
    run = RunDir(tmp_path / "job")
    run.path.mkdir()
    task = CommandTask(name="fold", task="command", command=spec)
    told: list[tuple[int, int]] = []
    line = WORK["command"].do(Job(run, task, lambda done, of: told.append((done, of)), print))
    assert line.startswith("pLDDT of 2 of 2 proteins")
    assert told[-1] == (2, 2)
    page = (run.path / "command.html").read_text()
    assert page.index("<td>b</td>") < page.index("<td>a</td>"), "the highest first"
    assert '"mean": 72.5' in (run.path / "command.json").read_text()


def test_proteins_of_one_name_are_refused_before_the_program_runs(tmp_path: Path, spec: CommandSpec):
    """Each would have the number of the last of them, and they would count as one."""
    (tmp_path / "run/samples/samples.fasta").write_text(">a one\nMKT\n>a two\nACDEF\n")
    run = RunDir(tmp_path / "job")
    run.path.mkdir()
    with pytest.raises(DataError, match="two records are called 'a'"):
        WORK["command"].do(
            Job(run, CommandTask(name="fold", task="command", command=spec), lambda done, of: None, print)
        )
    assert not (run.path / "command.csv").exists()


def test_a_table_without_the_column_is_kept(tmp_path: Path, spec: CommandSpec):
    run = RunDir(tmp_path / "job")
    run.path.mkdir()
    wrong = spec.model_copy(update={"column": "plddt"})
    task = CommandTask(name="fold", task="command", command=wrong)
    with pytest.raises(MisfitError, match="seen name, pLDDT, note; did you mean 'pLDDT'"):
        WORK["command"].do(Job(run, task, lambda done, of: None, print))
    assert (run.path / "command.csv").read_text().startswith("name,pLDDT,note")


def test_proteins_without_a_number_are_counted(tmp_path: Path, spec: CommandSpec):
    """Neither an empty cell nor a row cut short is one, nor what tools write of a failed fold."""
    (tmp_path / "t.csv").write_text("name,pLDDT\na one,50\nb,\nz,1\nd,nan\ne,inf\nf\n,3\n")
    proteins = [Record(name, "MK") for name in "abcdef"]
    found = read_column(tmp_path / "t.csv", spec, proteins)
    assert (found.values, found.missing) == ({"a": 50.0}, ("b", "c", "d", "e", "f"))
    assert "<td>a</td>" in render_found(found, proteins)
    json.dumps(found.document(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\na,1\n", "no column 'pLDDT': seen name, x$"),
        ("name,plddt\na,1\n", "no column 'pLDDT': seen name, plddt; did you mean 'plddt'"),
        ("name,pLDDT\nz,1\n", "no row"),
        ("", "seen nothing"),
        ("name,pLDDT\na,nan\n", "no row"),
        ("name,pLDDT\n", "no row"),
        ('name,pLDDT\na,"71,5"\n', "no row"),
        (f"name,pLDDT\na,{'1' * 200_000}\n", "is not a CSV table: field larger"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path: Path, spec: CommandSpec, text: str, message: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(MisfitError, match=message) as refusal:
        read_column(tmp_path / "t.csv", spec, [Record("a", "MK")])
    assert refusal.value.hint == "write 71,5 with a point: 71.5" if "71,5" in text else True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-such-program", "{fasta}", "{out}"), "cannot run no-such-program"),
        (("/etc/passwd", "{fasta}", "{out}"), "cannot run /etc/passwd: Permission denied"),
        (
            ("sh", "-c", "no-such-program"),
            "sh ended with code 127: a program or a file was not found; .* log",
        ),
        (("sh", "-c", "/etc/passwd"), "sh ended with code 126: a program or a file cannot be run; .* log"),
        ((sys.executable, "-c", "pass"), "wrote no o.csv"),
    ],
)
def test_what_no_other_attempt_would_find_otherwise_ends_the_run(
    tmp_path: Path, words: tuple[str, ...], message: str
):
    with pytest.raises(MisfitError, match=message) as refusal:
        run_program(words, fasta=tmp_path / "f", out=tmp_path / "o.csv", folder=tmp_path, ask=nothing)
    assert exit_of(refusal.value, folder=tmp_path) is Exit.MISFIT


@pytest.mark.parametrize(
    ("words", "folder", "message"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), ".", "ended with code 3"),
        (("sh", "-c", "true"), "run-folder-that-is-away", "cannot run sh"),
    ],
)
def test_a_program_that_fails_is_named_and_may_be_tried_again(
    tmp_path: Path, words: tuple[str, ...], folder: str, message: str
):
    where = tmp_path / folder
    with pytest.raises(RunError, match=message):
        run_program(words, fasta=tmp_path / "f", out=tmp_path / "o.csv", folder=where, ask=nothing)


def test_a_program_ends_when_the_attempt_has_to(tmp_path: Path):
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    note = tmp_path / "pid"

    def ask() -> None:
        if note.exists() and note.read_text():
            raise KeyboardInterrupt

    words = (sys.executable, "-c", code, str(note))
    with pytest.raises(KeyboardInterrupt):
        run_program(words, fasta=note, out=tmp_path / "o.csv", folder=tmp_path, ask=ask)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{note.read_text()}").exists():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_both_places_have_to_be_named(tmp_path: Path):
    with pytest.raises(ValidationError, match=r"does not hold \{out\}"):
        CommandSpec(run=("fold", "{fasta}"), fasta=tmp_path, column="x")
    with pytest.raises(DataError, match="does not exist"):
        proteins_of(CommandSpec(run=("fold", "{fasta}", "{out}"), fasta=tmp_path / "x", column="x"))
