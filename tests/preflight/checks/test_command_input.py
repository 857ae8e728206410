"""Proteins and scripts of a user's own program."""

from pathlib import Path

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks import command_input
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status
from sedd.spec.command import CommandTask
from sedd.spec.load import load_request


def look(folder: Path, *words: str, side: Side = Side.LOGIN):
    (folder / "p.fasta").write_text(">a\nMK\n")
    (folder / "fold.py").write_text("")
    run = ", ".join(f"'{word}'" for word in (*words, "{fasta}", "{out}"))
    spec = folder / "fold.yaml"
    spec.write_text(f"name: fold\ntask: command\ncommand: {{run: [{run}], fasta: p.fasta, column: x}}\n")
    (task,) = load_request(spec, ()).experiments
    assert isinstance(task, CommandTask)
    profile = LocalProfile(executor="local")
    context = CheckContext(side=side, experiment=task, profile=profile, folder=folder, environ={})
    return command_input.judge(command_input.gather(context))


@pytest.mark.parametrize("word", ["fald.py", "fold.sh", "./fold", "../fold", "tools/fold.py", "tools/w.pt"])
def test_a_word_that_looks_like_a_file_beside_the_spec_and_is_none_is_warned_of(tmp_path: Path, word: str):
    verdict = look(tmp_path, "python", word)
    assert verdict.status is Status.WARN
    assert word in verdict.saw
    assert look(tmp_path, "python", word, side=Side.NODE).status is Status.OK, "the submission has told"


def test_a_program_in_a_folder_that_is_not_there_is_warned_of(tmp_path: Path):
    assert look(tmp_path, "tools/fold").status is Status.WARN


@pytest.mark.parametrize(
    "word",
    [
        "fold.py",
        "./fold.py",
        "facebook/esmfold_v1",
        "--weights=w/a.pt",
        "https://x.org/a.pt",
        "0.5",
        "{out}.sh",
    ],
)
def test_what_is_there_or_may_be_no_file_is_not_warned_of(tmp_path: Path, word: str):
    assert look(tmp_path, "python", word).status is Status.OK


def test_proteins_that_are_not_there_weigh_more(tmp_path: Path):
    facts = command_input.Facts(fasta=tmp_path, problem="p does not exist", missing=("a.py",))
    assert command_input.judge(facts).status is Status.FAIL


def test_a_program_that_this_machine_does_not_have_is_warned_of(tmp_path: Path):
    verdict = look(tmp_path, "no-such-program-anywhere")
    assert (verdict.status, verdict.saw) == (
        Status.WARN,
        "this machine has no program no-such-program-anywhere",
    )
    assert look(tmp_path, "no-such-program-anywhere", side=Side.NODE).status is Status.OK
