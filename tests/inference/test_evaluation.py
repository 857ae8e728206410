"""Bounds and masked cross-entropies of a file: what they depend on, and how two networks are compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sedd.data.alphabet import encode
from sedd.data.records import Record
from sedd.diffusion.likelihood import Bound
from sedd.errors import UsageError
from sedd.inference.api import Network
from sedd.inference.comparison import difference, report
from sedd.inference.evaluation import evaluate, per_sequence, read_proteins
from sedd.inference.masked_cost import masked_costs
from sedd.inference.score import score_table
from sedd.inference.variant_table import parse_variants
from sedd.spec.inference import EvaluateOptions, ScoreOptions
from tests.command_line import call, sedd
from tests.inference.networks import small_network, write_small_checkpoint

TEXTS = ["MKTAYIAKQRQISF", "ACDEFGHIKLMNP", "WYV", "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "ACDEFGHIKLMNP"]
HOW = EvaluateOptions(draws=4)


def proteins_of(texts):
    return read_proteins([Record(f"p{n}", text) for n, text in enumerate(texts)], longest=64)


def bounds(network, texts):
    found = evaluate(network, proteins_of(texts), how=HOW, progress=lambda done: None)
    return found, per_sequence(found)["nats_per_residue"]


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_a_bound_depends_on_neither_place_nor_copies_nor_neighbours(tmp_path: Path, graph: str):
    network = small_network(tmp_path, graph=graph)
    found, each = bounds(network, TEXTS)
    assert each[1] == each[4], "the same protein twice has one bound"
    order = [3, 1, 4, 0, 2]
    shuffled, again = bounds(network, [TEXTS[n] for n in order])
    assert again == [each[n] for n in order]
    assert shuffled.bound.nats_per_residue == found.bound.nats_per_residue
    assert bounds(network, TEXTS[:1])[1][0] == pytest.approx(each[0], rel=1e-5)


def test_copies_count_as_often_as_they_occur_and_share_their_error(tmp_path: Path):
    network = small_network(tmp_path)
    once, each = bounds(network, TEXTS[:2])
    thrice, _ = bounds(network, [TEXTS[0]] * 3 + TEXTS[1:2])
    lengths = np.array([len(text) for text in TEXTS[:2]])
    assert thrice.bound.nats_per_residue == pytest.approx(np.average(each, weights=lengths * [3, 1]))
    variance = once.bound.variance[once.proteins.which.tolist()].numpy()
    expected = np.sqrt((variance * np.array([9, 1])).sum()) / (lengths * [3, 1]).sum()
    assert thrice.bound.standard_error == pytest.approx(expected)


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_with_all_residues_hidden_the_masked_cost_is_that_of_knowing_nothing(tmp_path: Path, graph: str):
    network = small_network(tmp_path, graph=graph)
    cost = masked_costs(network, proteins_of(TEXTS[:1]), EvaluateOptions(draws=3, mask_rates=(1.0,)))[1.0]
    (rows,) = Network(network).log_probabilities("_" * len(TEXTS[0]))
    expected = -rows[np.arange(len(rows)), encode(TEXTS[0])].mean()
    assert cost.nats_per_residue == pytest.approx(expected, rel=1e-6)
    assert (cost.standard_error, cost.total_residues) == (pytest.approx(0, abs=1e-7), len(TEXTS[0]))


def test_the_masked_cost_of_one_residue_at_a_time_is_the_mean_over_positions(tmp_path: Path):
    network, text = small_network(tmp_path), TEXTS[2]
    how = EvaluateOptions(draws=400, mask_rates=(0.3,))
    cost = masked_costs(network, proteins_of([text]), how)[0.3]
    hidden = [text[:place] + "_" + text[place + 1 :] for place in range(len(text))]
    rows = Network(network).log_probabilities(hidden)
    each = [-row[place, encode(text)[place]] for place, row in enumerate(rows)]
    assert cost.nats_per_residue == pytest.approx(np.mean(each), abs=4 * cost.standard_error)
    assert cost.total_residues == 1


def test_masked_costs_depend_on_neither_place_nor_copies(tmp_path: Path):
    network, how = small_network(tmp_path), EvaluateOptions(draws=2, mask_rates=(0.15, 0.5))
    one, other = (masked_costs(network, proteins_of(texts), how) for texts in (TEXTS, TEXTS[::-1]))
    assert {rate: cost.nats_per_residue for rate, cost in one.items()} == {
        rate: cost.nats_per_residue for rate, cost in other.items()
    }


def test_two_networks_are_compared_on_the_same_noise(tmp_path: Path):
    first, second = (
        small_network(tmp_path, parameterization="subs"),
        small_network(tmp_path, parameterization="subs", seed=1),
    )
    how = EvaluateOptions(draws=4, mask_rates=(0.15,))
    itself, there, back = (
        report(a, proteins_of(TEXTS), how, against=b).document["against"]
        for a, b in ((first, first), (first, second), (second, first))
    )
    for kind in (lambda found: found["bound"], lambda found: found["masked"][0]["difference"]):
        assert (kind(itself)["nats_per_residue"], kind(itself)["standard_error"]) == (0, 0)
        assert kind(there)["nats_per_residue"] == pytest.approx(-kind(back)["nats_per_residue"])
        assert kind(there)["standard_error"] > 0


@pytest.mark.parametrize(
    ("draws", "proteins", "told"),
    [
        (2, 1, "± comes from 2 sets of draws of 1 protein, too few to know it"),
        (15, 2, "± comes from 2 sets of draws of 2 proteins, too few to know it"),
        (2, 3, None),
        (16, 1, None),
    ],
)
def test_an_error_from_so_few_draws_that_it_is_hardly_known_says_so(
    tmp_path: Path, draws: int, proteins: int, told: str | None
):
    """Half of the bounds of one protein from two draws were over two errors off."""
    how = EvaluateOptions(draws=draws)
    texts = TEXTS[:proteins] * 2  # copies tell nothing new
    found = evaluate(small_network(tmp_path), proteins_of(texts), how=how, progress=lambda done: None)
    remarks = found.remarks(longest=64)
    assert [remark.startswith(told or "") for remark in remarks] == [True] * bool(told)


@pytest.mark.parametrize(
    ("draws", "told"), [(2, ["orders", "bound"]), (4, ["bound"]), (15, ["bound"]), (16, [])]
)
def test_scores_whose_errors_are_hardly_known_say_so(tmp_path: Path, draws: int, told: list[str]):
    how = ScoreOptions(methods=("masked", "orders", "bound"), draws=draws)
    table = parse_variants(Record("p", TEXTS[0]), ["M1A"])
    remarks = score_table(small_network(tmp_path), table, how).remarks()
    assert [remark.partition(":")[0] for remark in remarks] == told


def test_the_error_over_proteins_is_what_other_proteins_would_give():
    generator = torch.Generator().manual_seed(0)

    def sample():
        residues = torch.randint(50, 400, (60,), generator=generator)
        each = residues * 0.1 + residues**0.5 * torch.randn(60, generator=generator, dtype=torch.float64)
        zero = torch.zeros(60, dtype=torch.int64)
        one = Bound(estimates=each.expand(2, 60), residues=residues, ruled_out=zero)
        return difference(
            one, Bound(estimates=torch.zeros(2, 60).double(), residues=residues, ruled_out=zero)
        )

    found = [sample() for _ in range(200)]
    spread = np.std([one.nats_per_residue for one in found])
    claimed = np.mean([one.standard_error_over_proteins for one in found])
    assert 0.8 * spread < claimed < 1.25 * spread
    assert np.mean([one.nats_per_residue for one in found]) == pytest.approx(0.1, abs=4 * spread / 200**0.5)


def test_copies_are_one_protein_in_the_error_over_proteins(tmp_path: Path):
    """A file twice says no more about other proteins than once."""
    first, second = (small_network(tmp_path, parameterization="subs", seed=seed) for seed in (0, 1))
    once, twice = (
        report(first, proteins_of(texts), EvaluateOptions(draws=2), against=second).document["against"][
            "bound"
        ]
        for texts in (TEXTS, [*TEXTS, *TEXTS])
    )
    assert twice == pytest.approx(once)


def test_the_difference_of_one_protein_has_no_error_over_proteins(tmp_path: Path):
    network, how = small_network(tmp_path), EvaluateOptions(draws=2)
    for texts in (TEXTS[:1], TEXTS[:1] * 2):
        found = report(network, proteins_of(texts), how, against=network)
        assert found.document["against"]["bound"]["standard_error_over_proteins"] is None
        assert found.lines()[-1] == "  bound: +0.0000 ± 0.0000 nats"


def test_the_command_reports_a_curve_and_a_difference(tmp_path: Path):
    write_small_checkpoint(tmp_path / "a.pt", parameterization="subs")
    write_small_checkpoint(tmp_path / "b.pt", parameterization="subs", seed=1)
    (tmp_path / "p.fasta").write_text("".join(f">p{n}\n{text}\n" for n, text in enumerate(TEXTS)))
    common = ("evaluate", tmp_path / "a.pt", "--fasta", tmp_path / "p.fasta", "--draws", 2)
    done = sedd(*common, "--curve", "--against", tmp_path / "b.pt", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["rate"] for row in document["masked"]] == [0.05, 0.15, 0.25, 0.5, 0.75, 0.95]
    assert set(document["against"]["bound"]) == {
        "nats_per_residue",
        "standard_error",
        "standard_error_over_proteins",
    }
    with pytest.raises(UsageError, match=r"--mask-rate is 1\.5"):
        call(*common, "--mask-rate", 1.5)
