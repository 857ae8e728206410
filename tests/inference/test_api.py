"""`from sedd import load`: the page in sedd/README.md is run, and what its methods promise."""

import doctest
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

import sedd
from sedd.data.alphabet import TOKENS
from sedd.errors import SeddError, UsageError
from sedd.inference.export import write_export
from sedd.inference.sample_report import settings_text
from sedd.spec.inference import SampleOptions
from sedd.training.checkpoint_file import read_checkpoint
from tests.inference.networks import write_small_checkpoint

README = Path(sedd.__path__[0]) / "README.md"


def export(folder: Path, **kind: str) -> Path:
    write_export(read_checkpoint(write_small_checkpoint(folder / "small.pt", **kind)), folder / "my-network")
    return folder / "my-network"


def test_the_page_in_the_readme_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export(tmp_path, parameterization="subs")
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(README), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_a_checkpoint_and_its_export_say_the_same(tmp_path: Path, graph: str):
    folder = export(tmp_path, graph=graph)
    by_file, by_folder = sedd.load(tmp_path / "small.pt"), sedd.load(str(folder), device="cpu")
    sequences = ["MKTAY_AKQR", "ACD"]
    for one, other in zip(by_file.logits(sequences), by_folder.logits(sequences), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_log_probabilities_are_those_of_residues(tmp_path: Path, graph: str):
    (rows,) = sedd.load(export(tmp_path, graph=graph)).log_probabilities("MKT?Y")
    np.testing.assert_allclose(np.exp(rows).sum(1), 1, atol=1e-6)


def test_a_hidden_residue_is_the_one_that_a_masked_score_asks_for(tmp_path: Path):
    net = sedd.load(export(tmp_path))
    (rows,) = net.log_probabilities("MK_AYIAKQR")
    scores = net.score("MKTAYIAKQR", ["T3W"]).score("masked")
    assert scores[0] == pytest.approx(rows[2][TOKENS.index("W")] - rows[2][TOKENS.index("T")], abs=1e-5)


def test_what_a_notebook_shows_is_a_line(tmp_path: Path):
    network = sedd.load(export(tmp_path), device="cpu")
    found, scores = network.evaluate(["MKV"], draws=4), network.score("MKV", "K2A")
    assert re.fullmatch(
        r"<Evaluation of 1 protein: \d+\.\d{4} ± \d+\.\d{4} nats a residue, perplexity .*>", repr(found)
    )
    assert repr(scores) == "<Scores of 1 mutant by masked: .score(method), .columns()>"


def test_bounds_come_in_the_order_in_which_sequences_were_given(tmp_path: Path):
    net, given = sedd.load(export(tmp_path), device="cpu"), ["WWKVAAAA", "M", "MKV", "M", "ACD"]
    found = net.evaluate(given, draws=4)
    assert found.bound.residues.tolist() == [8, 1, 3, 3], "of the different ones"
    assert found.columns()["residues"] == list(map(len, given))
    alone = [net.evaluate(text, draws=4).bound.nats_per_residue for text in given]
    assert found.columns()["nats_per_residue"] == pytest.approx(alone, rel=1e-4)
    assert (found.bound.nats / found.bound.residues).tolist() == pytest.approx(
        [*alone[:3], alone[4]], rel=1e-4
    )
    assert found.bound.nats_per_residue == pytest.approx(np.average(alone, weights=[8, 1, 3, 1, 3]), rel=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("MKVA" * 17, "1 protein cut to the first 64 residues"),
        ("MK--J*VA", "2 gaps removed, 1 letter outside the alphabet read as X, 1 stop"),
        (["MKV", ""], "1 record without residues left out"),
    ],
)
def test_what_becomes_of_a_sequence_before_it_is_evaluated_is_warned_of(tmp_path: Path, given, told: str):
    with pytest.warns(UserWarning, match=re.escape(told)):
        sedd.load(export(tmp_path), device="cpu").evaluate(given, draws=2)


def test_mutants_that_are_scored_within_a_stretch_are_warned_of(tmp_path: Path):
    net = sedd.load(export(tmp_path), device="cpu")
    with pytest.warns(UserWarning, match="1 mutant scored by the 64 residues around the mutation"):
        net.score("MKVA" * 17, ["M1A"])


def test_the_page_of_samples_tells_what_they_were_drawn_under():
    how = SampleOptions(
        condition={"ec": "3.2.1"}, guidance=2, redesign={"parent": "a/wt.fasta", "noise": 0.2}
    )
    assert settings_text(how).endswith("condition ec=3.2.1, guidance 2.0, redesigns of wt.fasta, noise 0.2")


def test_what_cannot_be_done_is_a_clear_error(tmp_path: Path):
    path = export(tmp_path)
    net = sedd.load(path)
    for call, word in (
        (lambda: net.logits([]), "no sequences"),
        (lambda: net.logits({"a": "MK"}), "sequences are text"),
        (lambda: net.logits("MK", sigma_bar=-1), "^sigma_bar is -1; it must be greater than 0"),
        (lambda: net.score("MKT", ["foo"]), r"^mutants\[0\]: 'foo': 'O' is none of the twenty"),
        (lambda: net.score("MKT", "A1K"), r"^mutants\[0\]: 'A1K' names A"),
        (lambda: net.score("MKT", [5]), "mutants are text, one or a list of them"),
        (lambda: net.score(5), "wild_type is 5; it must be text"),
        (lambda: net.score("MKT", offset="x"), "offset is 'x'; it must be a whole number"),
        (lambda: net.score("MK", ["M1A"]).score("maskd"), "no scores by 'maskd': methods were masked"),
        (lambda: net.redesign(["MK"]), r"parent is \['MK'\]; it must be text"),
        (lambda: net.under("ec"), "condition is 'ec'; it must be a mapping"),
        (lambda: sedd.load(5), "network is 5; it must be text"),
        (lambda: sedd.load(path, device="gpu"), "device is 'gpu': "),
        (lambda: net.logits("M" * 65), "at most 64"),
        (lambda: net.logits("M1"), "not an amino acid"),
        (lambda: net.logits("M K"), "spaces"),
        (lambda: net.logits("MK-A"), "'MK-A' holds a gap"),
        (lambda: net.embed("MK.A"), "holds a gap"),
        (lambda: net.embed("MK", layer=1), "layer"),
        (lambda: net.score("MK", ["A1K"]), r"^mutants\[0\]: 'A1K' names A"),
        (lambda: net.score("MK", []), "no mutants"),
        (lambda: net.sample(0), "^count is 0; it must be greater"),
        (lambda: net.sample(1, length=-3), "^invalid length '-3'"),
        (lambda: net.score("MK", methods=("mask",)), r"^methods\S* is 'mask'; it must be .*'masked'"),
        (lambda: sedd.load(tmp_path / "nowhere.pt"), "no such checkpoint"),
    ):
        with pytest.raises(SeddError, match=word):
            call()
    with pytest.raises(UsageError):
        net.evaluate("MK", draws=1)
    for call, hint in (
        (lambda: net.redesign("MK", max_mutation=3), "hint: did you mean 'max_mutations'?"),
        (lambda: net.evaluate("MK", draw=4), "hint: did you mean 'draws'?"),
        (lambda: sedd.load(path, device="gpu"), "hint: cpu, cuda or cuda:0"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert traceback.format_exception_only(caught.value)[-1].strip() == hint


@pytest.mark.parametrize("given", [5, [5], None])
def test_what_is_no_text_is_named(tmp_path: Path, given: object):
    with pytest.raises(UsageError, match="sequences are text, one or a list of them, not"):
        sedd.load(export(tmp_path)).logits(given)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it takes two GPUs")
def test_the_second_card_draws_what_the_first_does_while_the_first_is_current(tmp_path: Path):
    """Steps are recorded as CUDA graphs on the current card; on another than the network's they would hold nothing."""
    path = export(tmp_path)
    torch.cuda.set_device(0)
    one, other = (sedd.load(path, device=f"cuda:{index}") for index in range(2))
    assert one.sample(8, length=40, steps=16, seed=1) == other.sample(8, length=40, steps=16, seed=1)
    for mine, theirs in zip(one.logits(["MKT_Y"]), other.logits(["MKT_Y"]), strict=True):
        assert np.array_equal(mine, theirs)
    assert torch.cuda.current_device() == 0


def test_a_file_is_not_read_as_a_sequence(tmp_path: Path):
    (tmp_path / "p.fasta").write_text(">a\nMKV\n")
    with pytest.raises(UsageError, match="is a file; sequences are text"):
        sedd.load(export(tmp_path)).embed(str(tmp_path / "p.fasta"))
