"""The whole report on real proteins: what is copied is found, what is not is not; and its picture holds up."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sedd.data.store import TokenStore
from sedd.quality.assess import Assessment, assess, of_the_same_lengths
from sedd.quality.sample_page import sample_page, sample_picture

pytest.importorskip("parasail", reason="pip install 'protein-sedd[report]'")

from sedd.quality.neighbours import Neighbours


@pytest.fixture(scope="module")
def opened(store: Path) -> TokenStore:
    return TokenStore.open(store)


@pytest.fixture(scope="module")
def found(opened: TokenStore) -> Assessment:
    split = opened.split("train")
    samples = [split.tokens(3), split.tokens(5)[10:60], split.tokens(3)]
    counts = np.array(opened.manifest.splits["train"].composition)
    return assess(samples, counts, [20, 30, 64], opened)


def test_a_copy_and_a_piece_of_a_training_protein_are_found_out(opened: TokenStore, found: Assessment):
    assert found.samples.identities == pytest.approx((1.0, 1.0, 1.0))
    assert (found.samples.proteins, found.samples.distinct_proteins) == (3, 2)
    nearest = Neighbours(opened.split("train")).nearest(opened.split("train").tokens(5)[10:60])
    assert nearest.sequence == 5


def test_identity_counts_equal_residues_over_the_samples_length(opened: TokenStore):
    protein = opened.split("train").tokens(7)[:60].copy()
    changed = protein.copy()
    changed[20:40:4] = (changed[20:40:4] - 4 + 1) % 20 + 4  # five residues, each into another of the twenty
    identity = Neighbours(opened.split("train")).nearest(changed).identity
    assert identity == pytest.approx(55 / 60)


def test_shuffled_proteins_are_nobodys_neighbours(opened: TokenStore):
    draw = np.random.default_rng(0)
    neighbours = Neighbours(opened.split("train"))
    shuffled = [draw.permutation(opened.split("train").tokens(i)) for i in range(10)]
    assert max(neighbours.nearest(protein).identity for protein in shuffled) < 0.4


def test_held_out_proteins_have_the_samples_lengths(opened: TokenStore, found: Assessment):
    assert found.held_out is not None
    assert found.held_out.residues == found.samples.residues
    drawn = of_the_same_lengths(opened.split("validation"), [50] * 4)
    assert len({protein.tobytes() for protein in drawn}) == 4


def test_held_out_proteins_are_never_shorter_than_need_be_nor_repeated_sooner(opened: TokenStore):
    """Past the longest protein the shortest ones came, and of each new length the same protein again."""
    split = opened.split("validation")
    lengths = np.sort(split.lengths())
    longest, few = int(lengths[-1]), split.sequences // 2
    too_long = of_the_same_lengths(split, [longest + 1] * 3)
    assert [len(protein) for protein in too_long] == [longest] * 3
    median = int(lengths[few])
    many = of_the_same_lengths(split, [median] * 3 * split.sequences)
    assert {len(protein) for protein in many} == {median}
    neighbouring = of_the_same_lengths(split, [20 + n for n in range(split.sequences)])
    assert len({protein[:20].tobytes() for protein in neighbouring}) == split.sequences


def test_a_page_says_where_held_out_proteins_have_to_stand_several_times(opened: TokenStore):
    counts, protein = np.array(opened.manifest.splits["train"].composition), opened.split("train").tokens(3)
    enough = opened.split("validation").sequences
    few, many = (assess([protein] * n, counts, [64], opened) for n in (enough, enough + 1))
    assert "several times" not in sample_page("x", few)
    assert f"of which there are {enough}: some stand there several times" in sample_page("x", many)


def test_without_the_training_data_the_rest_is_still_told(opened: TokenStore):
    counts = np.array(opened.manifest.splits["train"].composition)
    found = assess([opened.split("train").tokens(0)], counts, [64], None)
    assert (found.held_out, found.samples.identities, found.searched) == (None, None, 0)
    assert "not at hand" in sample_page("x", found)
    assert json.loads(json.dumps(found.document(), allow_nan=False))["held_out"] is None


def test_picture_and_page_stand_alone(found: Assessment):
    drawn = ElementTree.fromstring(sample_picture(found))
    texts = [element.text for element in drawn.iter() if element.text]
    assert {"training", "samples", "held out"} <= set(texts)
    for bar in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        assert bar.get("height") == "100%" or float(bar.get("height")) >= 0
    whole = sample_page("a <network>", found)
    assert "a &lt;network&gt;" in whole
    assert "<svg" in whole
    assert not any(word in whole for word in ("<script", "<link", "src="))
