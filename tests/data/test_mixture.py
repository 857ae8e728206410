"""Several stores in one run: fixed shares, epochs of their own, and a pure function of the index."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.data.alphabet import TOKENS
from sedd.data.batches import Batches
from sedd.data.build import build_store
from sedd.data.mixture import Mixture, joint_hash, residues_of_each, training_batches
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.spec.build import BuildOptions
from sedd.spec.data import DataSpec
from tests.data.proteins import write_fasta

A, W = TOKENS.index("A"), TOKENS.index("W")


def store(folder: Path, letter: str, count: int) -> TokenStore:
    """Sequences of one letter, each of another length, so that none is a repetition."""
    source = write_fasta(folder / f"{letter}.fasta", [letter * n for n in range(1, count + 1)])
    options = BuildOptions(validation_fraction=0)
    return TokenStore.open(build_store([source], folder / f"{letter}.store", options).path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[TokenStore]:
    """820 residues of A, 55 of W."""
    folder = tmp_path_factory.mktemp("two")
    return [store(folder, "A", 40), store(folder, "W", 10)]


def mixed(stores: list[TokenStore], temperature: float, residues: int = 100) -> Mixture:
    data = DataSpec.model_validate(
        {
            "store": stores[0].path,
            "mixture": {"stores": [s.path for s in stores[1:]], "temperature": temperature},
        }
    )
    batches = training_batches(stores, data, residues=residues, seed=3)
    assert isinstance(batches, Mixture)
    return batches


@pytest.mark.parametrize(
    ("temperature", "of_w"), [(1, 100 * 55 / 875), (2, 100 * 55**0.5 / (55**0.5 + 820**0.5)), (1e9, 50)]
)
def test_the_share_of_a_store_in_every_batch_follows_its_size_and_the_temperature(
    two: list[TokenStore], temperature: float, of_w: float
):
    batches = mixed(two, temperature)
    for index in (0, 1, 10**6):
        tokens = batches.micro_batch(index).tokens
        assert len(tokens) == 100
        assert abs((tokens == W).sum() - of_w) <= 0.5
        assert (tokens == A).sum() + (tokens == W).sum() == 100


def test_every_store_is_seen_whole_in_each_of_its_epochs(two: list[TokenStore]):
    """Lengths of the runs of W tell which sequences of the second store they are."""
    batches = mixed(two, 1e9, residues=110)  # 55 of W in each: one epoch
    for index in (0, 1, 7):
        batch = batches.micro_batch(index)
        edges = batch.cu_seqlens.tolist()
        lengths = [high - low for low, high in pairwise(edges) if batch.tokens[low] == W]
        assert sorted(lengths) == list(range(1, 11))


def test_a_batch_depends_on_seed_and_index_alone(two: list[TokenStore]):
    first, again = mixed(two, 2), mixed(two, 2)
    ahead = [again.micro_batch(index) for index in (9, 3, 0)]
    for index, batch in zip((9, 3, 0), ahead, strict=True):
        np.testing.assert_array_equal(first.micro_batch(index).tokens, batch.tokens)
        np.testing.assert_array_equal(first.micro_batch(index).cu_seqlens, batch.cu_seqlens)


def test_no_sequence_of_a_batch_crosses_from_store_to_store(two: list[TokenStore]):
    for index in range(20):
        batch = mixed(two, 2).micro_batch(index)
        for low, high in pairwise(batch.cu_seqlens.tolist()):
            assert len(set(batch.tokens[low:high].tolist())) == 1
            assert high - low <= batch.max_length


def test_one_store_is_no_mixture(two: list[TokenStore]):
    batches = training_batches(two[:1], DataSpec(store=two[0].path), residues=10, seed=0)
    assert isinstance(batches, Batches)
    assert joint_hash(two[:1]) == two[0].content_hash


def test_the_hash_of_a_mixture_names_all_stores_in_order(two: list[TokenStore]):
    assert len({joint_hash(two), joint_hash(two[::-1]), joint_hash(two[:1])}) == 3


def test_a_store_too_small_to_be_in_every_batch_is_refused(two: list[TokenStore]):
    with pytest.raises(DataError, match="no residue in a batch of 5") as raised:
        mixed(two, 1, residues=5)
    assert "temperature" in str(raised.value.hint)


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=9), st.integers(1, 10**6), st.floats(1, 1e6))
def test_shares_add_up_and_are_off_by_less_than_one_residue(
    sizes: list[int], residues: int, temperature: float
):
    shares = residues_of_each(sizes, residues, temperature)
    weights = [(size / max(sizes)) ** (1 / temperature) for size in sizes]
    assert sum(shares) == residues
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - residues * weight / sum(weights)) < 1 + 1e-6
