"""`sedd score` with a real network: tables, pages, errors, and what repeats exactly."""

import contextlib
import csv
import json
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sedd.data.alphabet import encode
from sedd.data.records import Record
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.parameterization import PARAMETERIZATIONS
from sedd.errors import DataError, SeddError
from sedd.inference import score as scoring
from sedd.inference.marginals import MARGINALS
from sedd.inference.score import correlations, score_part, score_table
from sedd.inference.score_page import write_score_page
from sedd.inference.variant_table import read_variants
from sedd.inference.variants import Variant, require_substitutions, scan
from sedd.spec.inference import ScoreOptions
from tests.command_line import call, sedd, sedd_here
from tests.inference.networks import small_network, write_small_checkpoint

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
METHODS = ("masked", "wild_type", "orders", "bound")
ALL = ScoreOptions(methods=METHODS, draws=4)


def table_of(tmp_path: Path, text: str, protein: str = PROTEIN):
    (tmp_path / "m.csv").write_text(text)
    return read_variants(tmp_path / "m.csv", [Record("w", protein)])


@pytest.fixture(params=[(g, p) for g in GRAPHS for p in PARAMETERIZATIONS], ids="-".join)
def network(request, tmp_path: Path):
    graph, parameterization = request.param
    return small_network(tmp_path, graph=graph, parameterization=parameterization)


def test_methods_are_those_of_the_spec():
    assert {*MARGINALS, "bound"} == set(METHODS)
    assert ScoreOptions.model_fields["methods"].annotation == tuple[Literal[METHODS], ...]


def test_every_method_on_both_graphs_and_parameterisations(network, tmp_path: Path):
    table = table_of(tmp_path, "mutant\n_wt\nK2A\nK2W\nK2A:Y5W\nK2A\n")
    found = score_table(network, table, ALL)
    for method in METHODS:
        scores, errors = found.score(method), found.standard_error(method)
        assert (scores[0], errors[0]) == (0, 0), "the wild type itself is worth exactly 0"
        assert scores[1] == scores[4], "the same protein twice has one score"
        assert np.isfinite(scores).all()
        assert np.abs(scores[1:]).min() > 0
        drawn = method in ("orders", "bound") or (method == "masked" and not network.objective.graph.settles)
        assert (errors[1:] > 0).all() == drawn


def test_packed_scores_are_those_of_mutants_one_by_one(network):
    table = scan([Record("w", PROTEIN[:12])])
    together = score_table(network, table, ALL)
    for number in (0, 57, 200):
        one = score_part(network.denoiser(), table.variants[number : number + 1], ALL, longest=64)
        for method in METHODS:
            np.testing.assert_allclose(one[method][0], together.values[method][number], rtol=1e-4, atol=2e-5)


def test_a_part_is_the_same_whatever_was_scored_before(tmp_path: Path, monkeypatch):
    network, table = small_network(tmp_path), scan([Record("w", PROTEIN)])
    whole = score_table(network, table, ScoreOptions())
    monkeypatch.setattr(scoring, "PART_VARIANTS", 100)
    parted = score_table(network, table, ScoreOptions())
    np.testing.assert_allclose(parted.score("masked"), whole.score("masked"), atol=1e-5)


def test_insertions_and_deletions_are_the_bounds_alone(tmp_path: Path):
    network = small_network(tmp_path)
    table = table_of(
        tmp_path, f"mutated_sequence\n{PROTEIN[:9]}W{PROTEIN[9:]}\n{PROTEIN[:9]}{PROTEIN[12:]}\n"
    )
    found = score_table(network, table, ScoreOptions(methods=("bound",), draws=4))
    assert np.isfinite(found.score("bound")).all()
    with pytest.raises(DataError, match=r"masked scores substitutions alone") as caught:
        score_table(network, table, ScoreOptions())
    assert "bound" in str(caught.value.hint)


def test_a_protein_longer_than_the_training_is_scored_around_the_site(tmp_path: Path):
    network = small_network(tmp_path)
    found = score_table(network, table_of(tmp_path, "mutant\nI72A\n", PROTEIN * 5), ALL)
    assert found.windows == 1
    assert all(np.isfinite(found.score(method)).all() for method in METHODS)


def test_scores_correlate_with_themselves_and_not_with_scrambled_positions(tmp_path: Path):
    network, table = small_network(tmp_path), scan([Record("w", PROTEIN)])
    scores = score_table(network, table, ScoreOptions())
    own = scores.score("masked")
    scrambled = np.random.default_rng(0).permutation(own)
    for numbers, expected in ((own, 1.0), (-own, -1.0), (scrambled, 0.0)):
        columns = {**table.columns, "measured": [str(number) for number in numbers]}
        compared = type(scores)(type(table)(table.variants, columns, 0), scores.values, 0)
        found = correlations(compared, "measured")["masked"]
        assert found.rho == pytest.approx(expected, abs=max(1e-9, 4 * found.standard_error))


def test_a_page_has_a_cell_for_every_score_and_nothing_from_elsewhere(tmp_path: Path):
    network, table = small_network(tmp_path), scan([Record("<w>", PROTEIN)], offset=23)
    scores = score_table(network, table, ScoreOptions())
    write_score_page(tmp_path / "p.html", network, ScoreOptions(), scores, measured=None)
    write_score_page(tmp_path / "p.svg", network, ScoreOptions(), scores, measured=None)
    page, svg = (tmp_path / "p.html").read_text(), (tmp_path / "p.svg").read_text()
    assert len(re.findall(r"M\d+ [\d.]+h11v11h-11z", svg)) == 19 * len(PROTEIN)
    assert svg.count("<circle") == len(PROTEIN)
    assert svg.strip() in page
    assert "&lt;w&gt;" in page
    assert "<w>" not in page
    assert ">24<" in svg
    assert not re.search(r"(src|href)=|url\(|@import", page)


@pytest.mark.parametrize(
    ("method", "told"), [("masked", False), ("wild_type", False), ("orders", True), ("bound", True)]
)
def test_a_page_speaks_of_draws_and_their_error_where_something_is_drawn(
    tmp_path: Path, method: str, told: bool
):
    network, how = small_network(tmp_path), ScoreOptions(methods=(method,), draws=3)
    scores = score_table(network, table_of(tmp_path, "mutant\nM1A\n"), how)
    write_score_page(tmp_path / "p.html", network, how, scores, measured=None)
    page = (tmp_path / "p.html").read_text()
    assert ("3 draws" in page) is told
    assert ("0.000" not in page) or told
    assert ("of the other residues hidden" in page) is (method == "orders")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_small_checkpoint(tmp_path / "n.pt")
    (tmp_path / "w.fasta").write_text(f">w\n{PROTEIN}\n")
    (tmp_path / "comma.tsv").write_text("mutant\tother\nK2A\t1,5\n")
    (tmp_path / "m.csv").write_text("mutant,fitness,other\nK2A,0.1,x\nT3W,0.9,\nA4G,0.3,\nY5F,,z\n")
    return {
        "net": tmp_path / "n.pt",
        "fasta": tmp_path / "w.fasta",
        "table": tmp_path / "m.csv",
        "comma": tmp_path / "comma.tsv",
        "at": tmp_path,
    }


def test_the_command_repeats_the_table_and_adds_scores(files):
    arguments = (
        "score",
        files["net"],
        "--fasta",
        files["fasta"],
        "--mutants",
        files["table"],
        "--measured",
        "fitness",
    )
    done = sedd(*arguments, "-o", files["at"] / "s.csv", "--json", "--method", "masked", "--method", "bound")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((files["at"] / "s.csv").open()))
    assert list(rows[0]) == ["mutant", "fitness", "other", "masked", "masked_se", "bound", "bound_se"]
    assert [row["other"] for row in rows] == ["x", "", "", "z"]
    document = json.loads(done.stdout)
    assert document["mutants"] == 4
    assert document["methods"]["masked"]["spearman"]["pairs"] == 3
    plain = sedd_here(*arguments)
    assert [row["masked"] for row in csv.DictReader(plain.stdout.splitlines())] == [
        row["masked"] for row in rows
    ]


def test_marks_of_a_missing_value_are_missing_and_two_pairs_are_too_few(files):
    marks = ["", "nan", "NA", "N/A", "n/a", "null", "-", "0.3", "0.1"]
    rows = "".join(f"K2{to},{mark}\n" for to, mark in zip("ACDEFGHIL", marks, strict=True))
    files["table"].write_text(f"mutant,fitness\n{rows}")
    score = ("score", files["net"], "--fasta", files["fasta"], "--mutants", files["table"])
    done = sedd_here(
        *score, "--measured", "fitness", "-o", files["at"] / "s.csv", "--page", files["at"] / "p.html"
    )
    assert done.returncode == 0, done.stderr
    told = "not computed: 2 pairs with both numbers, at least 3 are needed"
    assert f"masked: Spearman {told}\n" in done.stderr
    assert told in (files["at"] / "p.html").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_insertions_are_refused_before_the_work_for_the_methods_that_cannot_score_them(method: str):
    insertion = Variant(protein="p", name="x", wild_type=encode("MK"), mutant=encode("MKT"))
    refused = pytest.raises(DataError, match=f"{method} scores substitutions alone")
    with refused if method in MARGINALS else contextlib.nullcontext():
        require_substitutions([insertion], ScoreOptions(methods=(method,)))


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--fasta", "{fasta}"], 2, "either --scan"),
        (["--scan"], 2, "--scan needs --fasta"),
        (["--fasta", "{fasta}", "--scan", "--mutants", "{table}"], 2, "either --scan"),
        (["--fasta", "{fasta}", "--scan", "--method", "magic"], 2, "--method"),
        (["--fasta", "{fasta}", "--mutants", "{table}", "--offset", "3"], 2, "m.csv:2: 'K2A'"),
        (["--fasta", "{fasta}", "--mutants", "{table}", "--measured", "fit"], 2, "no column 'fit'"),
        (
            ["--fasta", "{fasta}", "--mutants", "{table}", "--measured", "other"],
            2,
            "m.csv:2: column 'other' holds 'x', which is not a number",
        ),
        (
            ["--fasta", "{fasta}", "--mutants", "{comma}", "--measured", "other"],
            2,
            "comma.tsv:2: column 'other' holds '1,5', which is not a number",
        ),
        (["--fasta", "{fasta}", "--mutants", "nowhere.csv"], 2, "does not exist"),
        (["--fasta", "{fasta}", "--scan", "--page", "x.pdf"], 2, "must end in .html or .svg"),
    ],
)
def test_what_cannot_be_scored_gets_one_clear_line(
    files, monkeypatch, arguments: list[str], code: int, word: str
):
    monkeypatch.chdir(files["at"])
    with pytest.raises(SeddError) as caught:
        call("score", files["net"], *(a.format(**files) for a in arguments))
    assert caught.value.exit_code == code
    assert word in caught.value.message
    assert ("1,5" in word) == (caught.value.hint == "write 1,5 with a point: 1.5")
    assert "\n" not in caught.value.message
