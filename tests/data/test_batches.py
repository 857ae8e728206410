import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proteins import made_up_proteins, write_fasta
from scipy.stats import chisquare

from sedd.data.alphabet import decode, encode
from sedd.data.batches import Batches, PackedBatch, longest_first, validation_batches
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.spec.build import BuildOptions

MakeStore = Callable[..., TokenStore]


def _marked(count: int, *, longest: int, seed: int = 0) -> list[str]:
    """Proteins that begin with M and have no other, so that a stream of residues shows where each one starts."""
    proteins = made_up_proteins(count, longest=longest, seed=seed)
    return list(dict.fromkeys("M" + protein.replace("M", "L") for protein in proteins))


def _pieces(batch: PackedBatch) -> list[str]:
    edges = batch.cu_seqlens.tolist()
    return [decode(batch.tokens[low:high]) for low, high in pairwise(edges)]


def _epoch_residues(batches: Batches, epoch: int) -> str:
    """The residues of one epoch, end to end, out of the micro-batches that hold them."""
    first, stop = epoch * batches.residues_per_epoch, (epoch + 1) * batches.residues_per_epoch
    low, high = first // batches.residues, -(-stop // batches.residues)
    stream = "".join(decode(batches.micro_batch(i).tokens) for i in range(low, high))
    return stream[first - low * batches.residues : stop - low * batches.residues]


def _sequences(store: TokenStore, split: str = "train") -> list[str]:
    of = store.split(split)
    return [decode(of.tokens(i)) for i in range(of.sequences)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_number_that_is_no_token_is_a_damaged_file_and_no_bug(tmp_path, split: str):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(200, longest=60))
    build_store([fasta], tmp_path / "store", BuildOptions(validation_fraction=0.3))
    (file,) = (tmp_path / "store" / split).glob("tokens-*.npy")
    content = bytearray(file.read_bytes())
    content[-1] = 200
    file.write_bytes(content)
    store = TokenStore.open(tmp_path / "store")

    def read() -> None:
        batches = Batches(store, residues=512, max_length=64)
        for index in range(-(-batches.residues_per_epoch // 512)):
            batches.micro_batch(index)
        validation_batches(store, residues_total=10**6, residues_per_batch=512, max_length=64)

    with pytest.raises(DataError, match="is damaged: it holds 200, and tokens are below 33") as refusal:
        read()
    assert str(file) in refusal.value.message
    assert "sedd data verify" in (refusal.value.hint or "")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Three superblocks, the last one not full, and a last block that is not full."""
    folder = tmp_path_factory.mktemp("many")
    fasta = write_fasta(folder / "many.fasta", _marked(9_100, longest=40))
    store = TokenStore.open(build_store([fasta], folder / "store", BuildOptions(validation_fraction=0)).path)
    assert store.split("train").sequences % 64
    assert 2 * 4096 < store.split("train").sequences < 3 * 4096
    return store


@pytest.mark.parametrize(("epoch", "residues"), [(0, 4096), (1, 4096), (7, 99_991)])
def test_an_epoch_holds_every_sequence_exactly_once(many: TokenStore, epoch: int, residues: int):
    batches = Batches(many, max_length=64, residues=residues, seed=3)
    shown = ["M" + rest for rest in _epoch_residues(batches, epoch)[1:].split("M")]
    assert Counter(shown) == Counter(_sequences(many))


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 150), residues=st.integers(1, 700), seed=st.integers(0, 9), epoch=st.integers(0, 3)
)
def test_an_epoch_of_a_tiny_store_is_exact_too(
    tmp_path_factory: pytest.TempPathFactory, count: int, residues: int, seed: int, epoch: int
):
    folder = tmp_path_factory.mktemp("tiny")
    proteins = _marked(count, longest=30, seed=seed)
    fasta = write_fasta(folder / "tiny.fasta", proteins)
    store = TokenStore.open(build_store([fasta], folder / "s", BuildOptions(validation_fraction=0)).path)
    batches = Batches(store, max_length=31, residues=residues, seed=seed)
    shown = ["M" + rest for rest in _epoch_residues(batches, epoch)[1:].split("M")]
    assert sorted(shown) == sorted(proteins)


def test_every_micro_batch_is_full_and_its_pieces_lie_end_to_end(many: TokenStore):
    batches = Batches(many, max_length=16, residues=1000, seed=0)
    for index in (0, 1, 50, batches.residues_per_epoch // 1000, 10**9):
        batch = batches.micro_batch(index)
        lengths = np.diff(batch.cu_seqlens)
        assert (batch.tokens.shape, batch.tokens.dtype) == ((1000,), np.int64)
        assert batch.cu_seqlens.dtype == np.int32
        assert (batch.cu_seqlens[0], batch.cu_seqlens[-1]) == (0, 1000)
        assert lengths.min() >= 1
        assert lengths.max() <= batch.max_length == 16


def test_only_the_first_and_last_piece_are_cut(many: TokenStore):
    known = set(_sequences(many))
    pieces = _pieces(Batches(many, max_length=64, residues=5000, seed=1).micro_batch(17))
    assert all(piece in known for piece in pieces[1:-1])
    assert len(pieces) > 100


def test_a_micro_batch_does_not_depend_on_what_was_asked_before(many: TokenStore):
    fresh = [Batches(many, residues=3000, seed=5).micro_batch(i).tokens for i in (3, 400, 7)]
    used = Batches(many, residues=3000, seed=5)
    for index in (400, 0, 7, 3, 10**7):
        used.micro_batch(index)
    for index, expected in zip((3, 400, 7), fresh, strict=True):
        np.testing.assert_array_equal(used.micro_batch(index).tokens, expected)


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2}])
def test_another_seed_gives_another_order(many: TokenStore, other: dict[str, int]):
    first, second = Batches(many, residues=3000), Batches(many, residues=3000, **other)
    assert set(_pieces(first.micro_batch(0))) != set(_pieces(second.micro_batch(0)))


def test_another_epoch_has_another_order(many: TokenStore):
    batches = Batches(many, max_length=64, residues=3000)
    assert _epoch_residues(batches, 0)[:500] != _epoch_residues(batches, 1)[:500]


def test_neighbours_in_the_file_are_far_apart_in_an_epoch(many: TokenStore):
    """No residue of order is left: a mini-batch draws from all over the store."""
    where = {sequence: i for i, sequence in enumerate(_sequences(many))}
    batches = Batches(many, max_length=64, residues=40_000)
    numbers = np.array([where[p] for p in _pieces(batches.micro_batch(0))[1:-1]])
    assert np.abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.1
    assert numbers.min() < 900
    assert numbers.max() > 8_000


def test_windows_of_a_long_protein_are_anywhere_in_it_equally_often(make_store: MakeStore):
    protein = made_up_proteins(30, longest=40)[-1][:20]
    store = make_store([protein])
    batches = Batches(store, max_length=5, residues=5)
    windows = Counter(decode(batches.micro_batch(epoch).tokens) for epoch in range(4800))
    positions = [protein[i : i + 5] for i in range(16)]
    assert sorted(windows) == sorted(set(positions))
    expected = np.array([300 * positions.count(window) for window in windows])
    assert chisquare(list(windows.values()), expected).pvalue > 1e-3


def test_batches_are_those_that_running_experiments_have_seen(make_store: MakeStore):
    """A golden hash: a change of it breaks the exact resume of every run in progress."""
    batches = Batches(make_store(made_up_proteins(5000, longest=900)), residues=32768, seed=42)
    digest = hashlib.sha256()
    for index in (0, 1, 30, 1_000_000):
        batch = batches.micro_batch(index)
        digest.update(batch.tokens.astype("<i8").tobytes() + batch.cu_seqlens.astype("<i4").tobytes())
    assert digest.hexdigest() == "9e356f17be08e7330b55a06c5ccd0c9c698de131161e2b217028b2e8135fb5ef"


def test_epoch_counts_residues(make_store: MakeStore):
    batches = Batches(make_store(["MKV" * 10, "ACDEF"]), max_length=10, residues=6)
    assert batches.residues_per_epoch == 15
    assert [batches.epoch(i) for i in (0, 5)] == [0.0, 2.0]


def test_an_empty_split_is_refused(make_store: MakeStore):
    with pytest.raises(DataError, match="validation split"):
        Batches(make_store(["MKV"]), split="validation")


def _validation(store: TokenStore, **changes: int) -> list[PackedBatch]:
    chosen = {"residues_total": 5000, "residues_per_batch": 1000, "max_length": 64, **changes}
    return validation_batches(store, **chosen)


def test_validation_holds_whole_sequences_up_to_its_total(make_store: MakeStore):
    store = make_store(made_up_proteins(900, longest=64), validation_fraction=0.5)
    batches = _validation(store)
    pieces = [piece for batch in batches for piece in _pieces(batch)]
    assert len(pieces) == len(set(pieces))
    assert set(pieces) <= set(_sequences(store, "validation"))
    assert 5000 <= sum(map(len, pieces)) < 5064
    assert all(len(batch.tokens) <= 1000 for batch in batches)
    assert {batch.max_length for batch in batches} == {64}


def test_validation_is_the_same_however_it_is_batched(make_store: MakeStore):
    store = make_store(made_up_proteins(900), validation_fraction=0.5)
    one, other = _validation(store), _validation(store, residues_per_batch=333)
    assert "".join(p for b in one for p in _pieces(b)) == "".join(p for b in other for p in _pieces(b))


def test_validation_of_a_small_split_is_all_of_it(make_store: MakeStore):
    store = make_store(made_up_proteins(100, longest=64), validation_fraction=0.5)
    pieces = [piece for batch in _validation(store, residues_total=10**9) for piece in _pieces(batch)]
    assert sorted(pieces) == sorted(_sequences(store, "validation"))


def test_validation_does_not_depend_on_the_order_of_the_input(make_store: MakeStore):
    proteins = made_up_proteins(300)
    stores = [make_store(order, validation_fraction=0.5) for order in (proteins, proteins[::-1])]
    one, other = ([p for b in _validation(s) for p in _pieces(b)] for s in stores)
    assert one == other


def test_validation_without_a_split_says_how_to_get_one(make_store: MakeStore):
    with pytest.raises(DataError, match="is empty") as raised:
        _validation(make_store(["MKV"]))
    assert "--validation-fraction" in str(raised.value.hint)


@given(st.lists(st.text("ACDEF", min_size=1, max_size=9), min_size=1, max_size=12))
def test_longest_first_is_the_same_sequences_by_falling_length(sequences: list[str]) -> None:
    ends = np.cumsum([0, *map(len, sequences)]).astype(np.int32)
    batch = PackedBatch(tokens=encode("".join(sequences)).astype(np.int64), cu_seqlens=ends, max_length=9)
    ordered = longest_first(batch)
    assert _pieces(ordered) == sorted(sequences, key=len, reverse=True)
    assert (ordered.tokens.dtype, ordered.cu_seqlens.dtype) == (np.int64, np.int32)
    assert ordered.max_length == 9
