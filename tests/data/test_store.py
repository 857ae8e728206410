import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from proteins import made_up_proteins

from sedd.data.alphabet import encode
from sedd.data.append import stored_part
from sedd.data.manifest import unigram_nats
from sedd.data.store import TokenStore
from sedd.data.verify import verify_store
from sedd.errors import DataError

MakeStore = Callable[..., TokenStore]


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    return make_store(made_up_proteins(400), validation_fraction=0.3)


def test_lengths_are_those_of_the_sequences(make_store: MakeStore):
    store = make_store(["MKV", "A" * 40_000, "MK"])
    assert store.lengths("train").tolist() == [3, 40_000, 2]
    assert store.split("train").longest == 40_000
    np.testing.assert_array_equal(store.split("train").tokens(2), encode("MK"))


@pytest.mark.parametrize("max_length", [1, 90, 300, 512])
def test_quantiles_of_lengths_are_numpys(store: TokenStore, max_length: int):
    levels = np.linspace(0, 1, 1001)
    split = store.split("train")
    expected = np.quantile(np.minimum(split.lengths(), max_length), levels, method="nearest")
    np.testing.assert_array_equal(split.length_quantiles(levels, max_length=max_length), expected)


def test_lengths_do_not_depend_on_how_many_are_read_at_once(store: TokenStore):
    split = store.split("train")
    for at_once in (1, 7, split.sequences, 1 << 20):
        np.testing.assert_array_equal(np.concatenate(list(split.length_pieces(at_once))), split.lengths())


def test_what_goes_through_all_sequences_maps_no_offsets(store: TokenStore, tmp_path: Path):
    """60 million of them would be 480 MB of resident memory."""
    split = store.split("train")
    split.length_quantiles(np.array([0.5]), max_length=512)
    split.block_residues(block=64, max_length=512)
    split.lengths()
    stored_part(store, tmp_path / "part")
    assert "offsets" not in vars(split)


def test_unigram_nats_is_the_cross_entropy_of_letter_frequencies(make_store: MakeStore):
    train, validation = {"A": 7, "L": 1}, {"A": 1, "W": 1}
    counts = [tuple(of.get(letter, 0) for letter in "ALW") for of in (train, validation)]
    # Each of the three letters is counted once more: 8/11, 2/11, 1/11.
    assert math.isclose(unigram_nats(*counts), -(math.log(8 / 11) + math.log(1 / 11)) / 2)


def test_unigram_nats_of_uniform_letters_is_log_20(store: TokenStore):
    assert abs(store.unigram_nats() - math.log(20)) < 0.01


def test_a_whole_store_has_no_problems(store: TokenStore):
    seen: list[int] = []
    assert verify_store(store.path, seen.append) == []
    assert sum(seen) == sum(file.stat().st_size for file in store.path.rglob("*.npy"))


@pytest.mark.parametrize("file", ["tokens-00000.npy", "offsets.npy", "hashes.npy"])
def test_a_flipped_bit_is_found(store: TokenStore, file: str):
    path = store.path / "train" / file
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    problems = verify_store(store.path)
    assert any(str(path) in problem for problem in problems)


def test_a_changed_manifest_is_found(store: TokenStore):
    path = store.path / "manifest.json"
    document = json.loads(path.read_text())
    document["splits"]["train"]["composition"][4] += 1
    document["content_hash"] = "0" * 32
    path.write_text(json.dumps(document))
    assert len(verify_store(store.path)) == 2


def _remove(path: Path) -> None:
    (path / "train" / "hashes.npy").unlink()


def _cut(path: Path) -> None:
    tokens = path / "train" / "tokens-00000.npy"
    tokens.write_bytes(tokens.read_bytes()[:-1])


def _change(path: Path, **fields: object) -> None:
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **fields}))


def _rename_shard(path: Path, name: str) -> None:
    document = json.loads((path / "manifest.json").read_text())
    document["splits"]["train"]["shards"][0]["file"] = name
    (path / "manifest.json").write_text(json.dumps(document))


def _link(path: Path) -> None:
    tokens = path / "train" / "tokens-00000.npy"
    tokens.rename(path.parent / "elsewhere.npy")
    tokens.symlink_to(path.parent / "elsewhere.npy")


def _link_split(path: Path) -> None:
    (path / "train").rename(path.parent / "elsewhere")
    (path / "train").symlink_to(path.parent / "elsewhere")


FOREIGN = (
    "../../secret.npy",
    "/etc/passwd",
    "..",
    "",
    "sub/tokens-00000.npy",
    "tokens-00000.npy\n",
    "hashes.npy",
    7,
)
DAMAGE = {
    **{
        f"file {name!r}": (
            lambda path, name=name: _rename_shard(path, name),
            "is not the name of a file of tokens",
        )
        for name in FOREIGN
    },
    "link out": (_link, "leads out of the store"),
    "split that is a link": (_link_split, "leads out of the store"),
    "missing file": (_remove, "hashes.npy is missing"),
    "cut file": (_cut, "bytes instead of"),
    "half a manifest": (lambda path: (path / "manifest.json").write_text("{"), "is damaged"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "is not a token store"),
    "other format": (lambda path: _change(path, format="zarr"), "is not a token store"),
    "later version": (lambda path: _change(path, version=3), "format version 3"),
    "other alphabet": (lambda path: _change(path, alphabet_hash="0"), "another alphabet"),
    "missing split": (lambda path: _change(path, splits={}), "is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_when_a_store_is_opened(name: str, store: TokenStore):
    damage, message = DAMAGE[name]
    damage(store.path)
    with pytest.raises(DataError, match=message):
        TokenStore.open(store.path)


def test_a_store_that_is_not_there_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist") as raised:
        TokenStore.open(tmp_path / "nothing")
    assert "sedd data build" in str(raised.value.hint)
