import random
from pathlib import Path

import numpy as np
import pytest
import xxhash

from sedd.data.clusters import ClusterTable, write_cluster_table


class StoppedError(Exception):
    pass


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode())


@pytest.fixture
def table(tmp_path: Path) -> tuple[ClusterTable, dict[str, str]]:
    """Of 5,000 members in any order, some twice; and what it says."""
    draw = random.Random(0)
    lines = [(f"C{draw.randrange(900)}", f"M{draw.randrange(5000)}") for _ in range(8000)]
    cluster_of: dict[str, str] = {}
    for cluster, member in lines:
        cluster_of.setdefault(member, cluster)
    source = tmp_path / "clusters.tsv"
    source.write_text("".join(f"{cluster}\t{member}\n" for cluster, member in lines))
    write_cluster_table(source, tmp_path / "table")
    return ClusterTable(tmp_path / "table"), cluster_of


def test_every_member_finds_the_cluster_that_was_named_first(table: tuple[ClusterTable, dict[str, str]]):
    found, cluster_of = table
    keys, missing = found.keys([m.encode() for m in cluster_of], np.zeros(len(cluster_of), np.uint64))
    assert keys.tolist() == [_hash(cluster) for cluster in cluster_of.values()]
    assert missing == 0


def test_who_is_in_no_cluster_keeps_a_key_of_its_own(table: tuple[ClusterTable, dict[str, str]]):
    found, cluster_of = table
    member = next(iter(cluster_of))
    keys, missing = found.keys([b"stranger", member.encode(), b"another"], np.array([7, 8, 9], np.uint64))
    assert keys.tolist() == [7, _hash(cluster_of[member]), 9]
    assert missing == 2


def test_the_sides_of_all_buckets_are_sorted_into_one_row(tmp_path: Path, table: object):
    members = np.load(tmp_path / "table" / "members.npy")
    assert (np.diff(members.astype(object)) >= 0).all()
    assert {path.name for path in (tmp_path / "table").iterdir()} == {"members.npy", "clusters.npy"}


def test_a_large_table_can_be_stopped(tmp_path: Path):
    source = tmp_path / "clusters.tsv"
    source.write_text("a\tb\n")

    def stop(count: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        write_cluster_table(source, tmp_path / "table", stop)
