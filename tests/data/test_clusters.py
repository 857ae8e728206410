import random
from pathlib import Path

import numpy as np
import pytest
import xxhash

from sedd.data.clusters import (
    ClusterTable,
    TableUse,
    mmseqs_name,
    table_notes,
    table_problem,
    write_cluster_table,
)
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
    assert {path.name for path in tmp_path.iterdir()} == {"clusters.tsv", "table.npy", "table.hits"}
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


def test_a_table_with_commas_is_told_so_and_shown_as_text(tmp_path: Path):
    (tmp_path / "clusters.csv").write_text("mutant,fitness\nA2G,1\n")
    with pytest.raises(DataError) as caught:
        write_cluster_table(tmp_path / "clusters.csv", tmp_path / "table.npy", LIMIT)
    assert caught.value.message.endswith(":1: not two tab-separated columns: 'mutant,fitness'")
    told = "columns are separated by commas here; a cluster table has lines of: representative<tab>member"
    assert caught.value.hint == told


def test_names_in_a_table_may_be_whole_headers(tmp_path: Path):
    (tmp_path / "clusters.tsv").write_text("sp|P1|A_B some words\ttr|P2|C_D\n")
    write_cluster_table(tmp_path / "clusters.tsv", tmp_path / "table.npy", LIMIT)
    sides, missing = ClusterTable(tmp_path / "table.npy").sides(
        [b"P2"], np.array([not _is_below("sp|P1|A_B")])
    )
    assert (sides.tolist(), missing) == ([_is_below("sp|P1|A_B")], 0)


def test_a_large_table_can_be_stopped(tmp_path: Path):
    source = tmp_path / "clusters.tsv"
    source.write_text("a\tb\n")

    def stop(count: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        write_cluster_table(source, tmp_path / "table.npy", LIMIT, stop)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("tr|W0FSK4|W0FSK4_9FLAV", "W0FSK4"),
        ("gi|129295|ref|NP_001|", "NP_001"),
        ("gnl|MYDB|contig1_7", "contig1_7"),
        ("pir||A49232", "A49232"),
        ("lcl|seq1", "seq1"),
        ("pdb|1ABC|A", "1ABC"),
        ("consensus_sp|P12345|X_Y", "P12345"),
        ("UniRef50_A0A5A9P0L4", "UniRef50_A0A5A9P0L4"),
        ("sample0|contig_49|orf_0", "sample0|contig_49|orf_0"),
        ("NCBI|Ecoli|gene_0", "NCBI|Ecoli|gene_0"),
        ("gnl|broken", "gnl|broken"),
    ],
)
def test_a_sequence_is_called_as_mmseqs2_calls_it(word: str, name: str):
    assert mmseqs_name(word.encode()) == name.encode()


def _look_up(tmp_path: Path, lines: list[tuple[str, str]], names: list[str]) -> tuple[list[bool], TableUse]:
    """The side of each name, all of which the table must have, and how the table was used."""
    (tmp_path / "clusters.tsv").write_text("".join(f"{cluster}\t{member}\n" for cluster, member in lines))
    write_cluster_table(tmp_path / "clusters.tsv", tmp_path / "table.npy", LIMIT)
    table = ClusterTable(tmp_path / "table.npy")
    sides, missing = table.sides([name.encode() for name in names], np.zeros(len(names), np.bool_))
    assert missing == 0
    return sides.tolist(), ClusterTable(tmp_path / "table.npy").use()


@pytest.mark.parametrize(
    "word",
    ["sample{0}|contig_49|orf_{0}", "NCBI|Ecoli|gene_{}", "gnl|db{}|1", "tr|A{}|B_C", "ucs{}", "plain{}"],
)
@pytest.mark.parametrize("is_of_mmseqs", [False, True])
def test_members_are_found_by_whole_words_and_by_what_mmseqs2_makes_of_them(
    word: str, is_of_mmseqs: bool, tmp_path: Path
):
    words = [word.format(n) for n in range(60)]
    named = [mmseqs_name(w.encode()).decode() if is_of_mmseqs else w for w in words]
    if len(set(named)) < 60:
        return  # of such headers MMseqs2 itself makes one name
    lines = [(named[n - n % 5], named[n]) for n in range(60)]
    sides, use = _look_up(tmp_path, lines, words)
    assert all(len(set(sides[n : n + 5])) == 1 for n in range(0, 60, 5)), "a cluster is on one side"
    assert len(set(sides)) == 2
    assert use == TableUse(members=60, found=60, repeated=0)


def test_what_is_used_of_a_table_is_counted(tmp_path: Path):
    lines = [("a", "a"), ("a", "b"), ("c", "b"), ("c", "c"), ("c", "d")]
    _, use = _look_up(tmp_path, lines, ["a", "b", "b", "c"])
    assert use == TableUse(members=4, found=3, repeated=1)


def test_a_table_that_cannot_tell_sequences_apart_is_refused():
    use = TableUse(members=10, found=3, repeated=0)
    assert table_problem(use, sequences=10, unclustered=10) == "names none of the sequences"
    assert "10 of them share 3 names" in str(table_problem(use, sequences=10, unclustered=0))
    repeated = TableUse(members=10, found=10, repeated=11)
    assert "more than once" in str(table_problem(repeated, sequences=10, unclustered=0))
    assert table_problem(TableUse(members=10, found=9, repeated=1), sequences=10, unclustered=1) is None


def test_shares_that_do_not_fit_are_told():
    use = TableUse(members=1000, found=500, repeated=50)
    notes = table_notes(use, sequences=600, unclustered=60, dropped=100)
    assert [note.split(" ", 4)[:4] for note in notes] == [
        ["60", "of", "600", "(10%)"],
        ["40", "of", "540", "(7%)"],
        ["50", "of", "1,050", "(5%)"],
        ["400", "of", "1,000", "(40%)"],
    ]
    assert (
        table_notes(TableUse(members=1000, found=990, repeated=0), sequences=990, unclustered=0, dropped=9)
        == []
    )
