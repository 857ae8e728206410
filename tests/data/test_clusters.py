import random
from pathlib import Path

import numpy as np
import pytest
import xxhash

from sedd.data.clusters import ClusterTable, write_cluster_table
from sedd.errors import DataError

LIMIT = 1 << 62


class StoppedError(Exception):
    pass


def _is_below(name: str) -> bool:
    return xxhash.xxh3_64_intdigest(name.encode()) < LIMIT


@pytest.fixture
def table(tmp_path: Path) -> tuple[ClusterTable, dict[str, str]]:
    """Of 5,000 members in any order, some in two clusters; and the one that is named first."""
    draw = random.Random(0)
    lines = [(f"C{draw.randrange(900)}", f"M{draw.randrange(5000)}") for _ in range(8000)]
    cluster_of: dict[str, str] = {}
    for cluster, member in lines:
        cluster_of.setdefault(member, cluster)
    source = tmp_path / "clusters.tsv"
    source.write_text("".join(f"{cluster}\t{member}\n" for cluster, member in lines))
    write_cluster_table(source, tmp_path / "table.npy", LIMIT)
    assert {path.name for path in tmp_path.iterdir()} == {"clusters.tsv", "table.npy"}
    return ClusterTable(tmp_path / "table.npy"), cluster_of


@pytest.mark.parametrize("otherwise", [False, True])
def test_every_member_is_on_the_side_of_the_cluster_that_was_named_first(
    otherwise: bool, table: tuple[ClusterTable, dict[str, str]]
):
    found, cluster_of = table
    sides, missing = found.sides([m.encode() for m in cluster_of], np.full(len(cluster_of), otherwise))
    assert sides.tolist() == [_is_below(cluster) for cluster in cluster_of.values()]
    assert 0.2 < sides.mean() < 0.3
    assert missing == 0


def test_who_is_in_no_cluster_stays_on_its_own_side(table: tuple[ClusterTable, dict[str, str]]):
    found, cluster_of = table
    member, cluster = next(iter(cluster_of.items()))
    sides, missing = found.sides([b"stranger", member.encode(), b"another"], np.array([True, False, False]))
    assert sides.tolist() == [True, _is_below(cluster), False]
    assert missing == 2


def test_lines_are_read_alike_in_whatever_company(tmp_path: Path):
    """Plain ones are read together, unless there is another among them."""
    plain = "".join(f"C{n // 3}\tM{n}\n" for n in range(300))
    members = [f"M{n}".encode() for n in range(300)]
    sides = []
    for number, text in enumerate((plain, plain.replace("\n", "\r\n"), plain + "sp|C1|x y\tM\n", plain[:-1])):
        (tmp_path / "clusters.tsv").write_bytes(text.encode())
        write_cluster_table(tmp_path / "clusters.tsv", tmp_path / f"{number}.npy", LIMIT)
        found, missing = ClusterTable(tmp_path / f"{number}.npy").sides(members, np.zeros(300, np.bool_))
        assert missing == 0
        sides.append(found.tolist())
    assert sides == [[_is_below(f"C{n // 3}") for n in range(300)]] * 4


@pytest.mark.parametrize("text", ["a\tb\tc\nd\n", "a\tb\n\tc\n", "a\tb\nc\t\n", "a\n", "a\tb\n\nc\td\n"])
def test_a_line_of_another_shape_is_named(text: str, tmp_path: Path):
    (tmp_path / "clusters.tsv").write_text(text)
    with pytest.raises(DataError, match=r"clusters.tsv:\d: not two tab-separated columns"):
        write_cluster_table(tmp_path / "clusters.tsv", tmp_path / "table.npy", LIMIT)


def test_names_in_a_table_may_be_whole_headers(tmp_path: Path):
    (tmp_path / "clusters.tsv").write_text("sp|P1|A_B some words\ttr|P2|C_D\n")
    write_cluster_table(tmp_path / "clusters.tsv", tmp_path / "table.npy", LIMIT)
    sides, missing = ClusterTable(tmp_path / "table.npy").sides([b"P2"], np.array([not _is_below("P1")]))
    assert (sides.tolist(), missing) == ([_is_below("P1")], 0)


def test_a_large_table_can_be_stopped(tmp_path: Path):
    source = tmp_path / "clusters.tsv"
    source.write_text("a\tb\n")

    def stop(count: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        write_cluster_table(source, tmp_path / "table.npy", LIMIT, stop)
