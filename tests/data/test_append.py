from pathlib import Path

import numpy as np
import pytest
from proteins import made_up_proteins, write_fasta
from pydantic import ValidationError

from sedd.data.alphabet import decode
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.data.verify import verify_store
from sedd.errors import DataError
from sedd.spec.build import BuildOptions

HALF = {"validation_fraction": 0.5}
PROTEINS = made_up_proteins(600)


def _sequences(path: Path, split: str) -> list[str]:
    of = TokenStore.open(path).split(split)
    return [decode(of.tokens(i)) for i in range(of.sequences)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    fasta = write_fasta(tmp_path / "old.fasta", PROTEINS[:400])
    return build_store([fasta], tmp_path / "old", BuildOptions(**HALF)).path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Half of it is in the old one."""
    return write_fasta(tmp_path / "new.fasta", PROTEINS[200:])


def test_old_sequences_keep_their_numbers_and_new_ones_follow(tmp_path: Path, old: Path, release: Path):
    result = build_store([release], tmp_path / "new", BuildOptions(onto=old, **HALF))
    whole = build_store([tmp_path / "old.fasta", release], tmp_path / "whole", BuildOptions(**HALF))
    for split in ("train", "validation"):
        before, after = _sequences(old, split), _sequences(tmp_path / "new", split)
        assert after[: len(before)] == before
        assert after == _sequences(tmp_path / "whole", split)
    assert result.manifest.content_hash == whole.manifest.content_hash
    assert result.manifest.tally == whole.manifest.tally
    assert result.manifest.splits["train"].composition == whole.manifest.splits["train"].composition
    assert verify_store(tmp_path / "new") == []


def test_the_old_store_is_untouched_and_may_go(tmp_path: Path, old: Path, release: Path):
    before = {file: file.read_bytes() for file in old.rglob("*.*")}
    build_store([release], tmp_path / "new", BuildOptions(onto=old, **HALF))
    assert {file: file.read_bytes() for file in old.rglob("*.*")} == before
    for file in before:
        file.unlink()
    assert verify_store(tmp_path / "new") == []


def test_a_store_may_be_replaced_by_itself_and_more(tmp_path: Path, old: Path, release: Path):
    build_store([release], old, BuildOptions(onto=old, **HALF), force=True)
    assert sorted(_sequences(old, "train") + _sequences(old, "validation")) == sorted(PROTEINS)
    assert verify_store(old) == []


def test_the_same_addition_again_is_reused(tmp_path: Path, old: Path, release: Path):
    build_store([release], tmp_path / "new", BuildOptions(onto=old, **HALF))
    assert build_store([release], tmp_path / "new", BuildOptions(onto=old, **HALF)).reused


def test_other_clusters_than_those_of_the_old_store_are_warned_of(tmp_path: Path):
    """A representative's name decides on the side of its cluster."""
    write_fasta(tmp_path / "a.fasta", PROTEINS[:60])
    write_fasta(tmp_path / "b.fasta", PROTEINS[60:90])
    names = [
        line[1:].split()[0]
        for f in "ab"
        for line in (tmp_path / f"{f}.fasta").read_text().split("\n")
        if line[:1] == ">"
    ]
    for table, prefix in (("same", "c"), ("renamed", "d")):
        lines = [f"{prefix}{number % 30}\t{name}\n" for number, name in enumerate(dict.fromkeys(names))]
        (tmp_path / f"{table}.tsv").write_text("".join(lines))
    options = {table: {**HALF, "clusters": tmp_path / f"{table}.tsv"} for table in ("same", "renamed")}
    build_store([tmp_path / "a.fasta"], tmp_path / "old", BuildOptions(**options["same"]))
    for table in options:
        new = build_store(
            [tmp_path / "b.fasta"], tmp_path / table, BuildOptions(onto=tmp_path / "old", **options[table])
        )
        told = [note for note in new.manifest.notes if "both sides of the split" in note]
        assert bool(told) == (table == "renamed")
        assert "name of no sequence" not in " ".join(new.manifest.notes), (
            "those of the old store are not known"
        )


def test_shards_of_the_old_store_take_no_space_again(tmp_path: Path, old: Path, release: Path):
    build_store([release], tmp_path / "new", BuildOptions(onto=old, **HALF))
    shards = [folder / "train" / "tokens-00000.npy" for folder in (old, tmp_path / "new")]
    assert shards[0].samefile(shards[1])
    np.testing.assert_array_equal(*(np.load(shard) for shard in shards))


def test_nothing_is_added_to_a_sample(tmp_path: Path, old: Path, release: Path):
    build_store([release], tmp_path / "sample", BuildOptions(sample=5, **HALF))
    with pytest.raises(DataError, match="is a sample"):
        build_store([release], tmp_path / "new", BuildOptions(onto=tmp_path / "sample", **HALF))
    with pytest.raises(ValidationError, match="leave sample or onto out"):
        BuildOptions(onto=old, sample=5, **HALF)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.1}, "validation_fraction=0.5"),
        ({"min_length": 5, **HALF}, "min_length=1"),
        ({"clusters": True, **HALF}, "clusters"),
    ],
)
def test_what_would_break_the_split_is_refused(
    options: dict[str, object], message: str, tmp_path: Path, old: Path, release: Path
):
    if "clusters" in options:
        options = {**options, "clusters": tmp_path / "clusters.tsv"}
        (tmp_path / "clusters.tsv").write_text("P1\tP2\n")
    with pytest.raises(DataError, match=message):
        build_store([release], tmp_path / "new", BuildOptions(onto=old, **options))
    assert not (tmp_path / "new").exists()
