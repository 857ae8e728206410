"""Labels from a table into a token store: whose they are, what the manifest says, and what is refused."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from sedd.conditions.label_fields import describe
from sedd.data.build import build_store
from sedd.data.node_cache import stage_store
from sedd.data.store import TokenStore
from sedd.data.verify import verify_store
from sedd.errors import DataError
from sedd.spec.build import BuildOptions
from tests.conditions.made_up import build, labels_of, proteins, write_fasta, write_table

OF = proteins(300)


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Two thirds have a family, half a temperature; and the table is in another order than the proteins."""
    draw = random.Random(1)
    made = {name: [draw.choice(["3.2.1", "1.1", "4.2", ""][: 3 + (draw.random() < 0.5)]), ""] for name in OF}
    for name in list(made)[::2]:
        made[name][1] = f"{draw.uniform(10, 90):.2f}"
    names = list(made)
    draw.shuffle(names)
    return {name: made[name] for name in names}


@pytest.fixture
def table(tmp_path: Path, rows: dict[str, list[str]]) -> Path:
    return write_table(tmp_path / "labels.tsv", ["ec", "temp"], rows)


def test_every_sequence_has_the_labels_of_its_line(tmp_path: Path, table: Path, rows: dict[str, list[str]]):
    store = build(tmp_path, "store", OF, labels=table, label_numbers=("temp",))
    family, temperature = labels_of(store, "ec"), labels_of(store, "temp")
    assert family == {OF[name]: cells[0] or None for name, cells in rows.items()}
    wanted = {OF[name]: np.float32(cells[1]) if cells[1] else None for name, cells in rows.items()}
    assert temperature == wanted
    assert verify_store(store.path) == []


def test_the_manifest_says_fields_values_counts_and_what_is_missing(
    tmp_path: Path, table: Path, rows: dict[str, list[str]]
):
    store = build(tmp_path, "store", OF, labels=table, label_numbers=("temp",))
    ec, temp = store.manifest.labels
    assert (ec.name, ec.kind, set(ec.values)) == ("ec", "category", {"3.2.1", "1.1", "4.2"})
    assert (temp.name, temp.kind, temp.values) == ("temp", "number", ())
    for number, value in enumerate(ec.values):
        assert ec.counts["train"][number] + ec.counts["validation"][number] == sum(
            cells[0] == value for cells in rows.values()
        )
    assert sum(ec.missing.values()) == sum(not cells[0] for cells in rows.values())
    train = store.split("train").label("temp").astype(np.float64)
    assert temp.missing_share["train"] == np.isnan(train).mean()
    assert temp.statistics["mean"] == pytest.approx(np.nanmean(train))
    assert temp.statistics["std"] == pytest.approx(np.nanstd(train))
    assert (temp.statistics["min"], temp.statistics["max"]) == (np.nanmin(train), np.nanmax(train))


def test_a_store_without_labels_says_nothing_of_them(tmp_path: Path):
    store = build(tmp_path, "store", OF)
    document = json.loads((store.path / "manifest.json").read_text())
    assert "labels" not in document
    assert not {"labels", "label_numbers"} & set(document["options"])
    assert document["version"] == 1
    assert sorted(p.name for p in (store.path / "train").iterdir()) == [
        "hashes.npy", "offsets.npy", "tokens-00000.npy",
    ]  # fmt: skip


def test_names_are_matched_as_mmseqs2_writes_them(tmp_path: Path):
    of = {"sp|W0FSK4|A_B": "MKV", "plain": "MKL", "a|b|c": "MKI", "tr|Q1|Z_Z": "MKM"}
    rows = {"W0FSK4": ["1"], "plain": ["2"], "b": ["3"], "sp|Q1|other": ["4"]}
    found = labels_of(build(tmp_path, "s", of, labels=write_table(tmp_path / "t", ["x"], rows)), "x")
    # `a|b|c` begins with no databank's prefix, so that its name is all of it.
    assert found == {"MKV": "1", "MKL": "2", "MKI": None, "MKM": "4"}


def test_the_processes_and_the_parts_change_no_byte(tmp_path: Path, table: Path, monkeypatch):
    monkeypatch.setattr("sedd.data.build._WORTH_PROCESSES_BYTES", 0)
    fasta = write_fasta(tmp_path / "p.fasta", OF)
    options = BuildOptions(labels=table, label_numbers=("temp",), validation_fraction=0.3)
    one = build_store([fasta, fasta], tmp_path / "one", options, workers=1).manifest
    two = build_store([fasta, fasta], tmp_path / "two", options, workers=2).manifest
    assert one.labels == two.labels
    assert one.content_hash == two.content_hash
    assert one.tally["duplicates"] == len(OF)


def test_of_repeated_sequences_the_one_that_stays_brings_its_labels(tmp_path: Path):
    of = {"first": "MKVL", "second": "MKVL", "third": "MKVA"}
    rows = {"first": ["a"], "second": ["b"], "third": ["c"]}
    table = write_table(tmp_path / "t", ["x"], rows)
    assert labels_of(build(tmp_path, "s", of, labels=table), "x") == {"MKVL": "a", "MKVA": "c"}
    kept = build(tmp_path, "k", of, labels=table, keep_duplicates=True)
    assert sorted(kept.manifest.labels[0].values) == ["a", "b", "c"]
    assert sum(map(sum, kept.manifest.labels[0].counts.values())) == 3


def test_what_is_added_keeps_the_numbers_of_old_values(
    tmp_path: Path, table: Path, rows: dict[str, list[str]]
):
    old = build(tmp_path, "old", OF, labels=table, label_numbers=("temp",))
    more = proteins(100, seed=5)
    added = {name: ["9.9" if n % 2 else "4.2", str(n)] for n, name in enumerate(more)}
    # The columns in another order: fields are told by name.
    second = write_table(tmp_path / "more.tsv", ["temp", "ec"], {n: c[::-1] for n, c in added.items()})
    new = build(tmp_path, "new", more, labels=second, label_numbers=("temp",), onto=old.path)
    before, after = old.manifest.labels[0].values, new.manifest.labels[0].values
    assert after == (*before, "9.9")
    both = {**{OF[n]: c[0] or None for n, c in rows.items()}, **{more[n]: c[0] for n, c in added.items()}}
    assert labels_of(new, "ec") == both
    count = old.split("train").sequences
    assert (new.split("train").label("ec")[:count] == old.split("train").label("ec")).all()
    assert verify_store(new.path) == []


def test_a_store_with_labels_takes_none_without_nor_others(tmp_path: Path, table: Path):
    old = build(tmp_path, "old", OF, labels=table, label_numbers=("temp",))
    bare = build(tmp_path, "bare", OF)
    with pytest.raises(DataError, match="one has labels and the other has none"):
        build(tmp_path, "new", proteins(5, seed=2), onto=old.path)
    with pytest.raises(DataError, match="one has labels and the other has none"):
        build(tmp_path, "new", proteins(5, seed=2), onto=bare.path, labels=table, label_numbers=("temp",))
    with pytest.raises(DataError, match=r"other fields than the store.*ec \(category\), temp \(number\)"):
        build(tmp_path, "new", OF, onto=old.path, labels=table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("id\tec\n", "no line behind its header"),
        ("id\nP0_1\n", ":1: only one column: 'id'"),
        ("id\tec\tec\n", ":1: two columns of one name"),
        ("id\t9c\nP0_1\ta\n", ":1: a field is called '9c'"),
        ("id\tec\nP0_1\ta\nP0_2\ta\tb\n", ":3: 3 columns instead of 2: 'P0_2\\ta\\tb'"),
        ("id\tec\nP0_1\ta\n\tb\n", ":3: no name"),
        ("id\tec\nP0_1\ta\nP0_2\tb\nP0_1\tb\n", ":4: names the sequence of line 2 again, with other labels"),
        ("id\tec\nnobody\ta\n", "names none of the sequences"),
        ("id\tec\nP0_1\t\xff\n", ":2: not text (UTF-8): 'P0_1\\t�'"),
        ("id\tec\ttemp\nP0_1\ta\tnan\n", ":2: 'temp' is 'nan', not a finite number"),
        ("id\tec\ttemp\nP0_1\ta\t5\nP0_2\ta\thot\n", ":3: 'temp' is 'hot', not a finite number"),
    ],
)
def test_a_bad_table_is_one_clear_line_and_leaves_nothing(tmp_path: Path, text: str, said: str):
    table = tmp_path / "bad.tsv"
    table.write_bytes(text.encode("latin-1"))
    numbers = ("temp",) if "temp" in text else ()
    with pytest.raises(DataError) as error:
        build(tmp_path, "s", OF, labels=table, label_numbers=numbers)
    assert said in error.value.message
    assert "\n" not in error.value.message
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("text", ["id,ec\nP0_1,a\n", "id\tec\nP0_1,a\n"])
def test_a_table_with_commas_is_told_so(tmp_path: Path, text: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as error:
        build(tmp_path, "s", OF, labels=tmp_path / "t.csv")
    assert (error.value.hint or "").startswith("columns are separated by commas here; a label table is a TSV")


def test_the_same_line_twice_is_no_contradiction(tmp_path: Path):
    table = tmp_path / "t.tsv"
    table.write_text("id\tec\nP0_1\ta\nP0_1\ta\n")
    assert labels_of(build(tmp_path, "s", OF, labels=table), "ec")[OF["P0_1"]] == "a"


def test_lines_in_vain_and_labels_that_are_rare_are_told(tmp_path: Path):
    table = write_table(tmp_path / "t", ["ec"], {"P0_1": ["a"], "P0_2": ["a"], "nobody": ["b"]})
    notes = build(tmp_path, "s", OF, labels=table).manifest.notes
    assert notes[0] == "1 of 3 (33%) lines of the label table name no sequence"
    assert re.fullmatch(
        r"\d+ of the \d+ training sequences \((99%|all but [12])\) have no label 'ec'", notes[1]
    )


@pytest.mark.parametrize(
    ("header", "row", "hint"),
    [
        ("id;ec", "P0_1;a", "columns are separated by semicolons here; a label table is a TSV"),
        ("id;ec,temp", "P0_1;1,5", "columns are separated by semicolons here; a label table is a TSV"),
        ("id ec", "P0_1 a", "columns are separated by spaces here; a label table is a TSV"),
        ("id\ttemp", "P0_1\t1,5", "write 1,5 with a point: 1.5"),
    ],
)
def test_what_separates_columns_and_decimals_is_told(tmp_path: Path, header: str, row: str, hint: str):
    (tmp_path / "t").write_text(f"{header}\n{row}\n")
    with pytest.raises(DataError) as error:
        build(tmp_path, "s", OF, labels=tmp_path / "t", label_numbers=("temp",) if "\ttemp" in header else ())
    assert (error.value.hint or "").startswith(hint)


def test_one_value_is_told_in_the_singular(tmp_path: Path):
    table = write_table(tmp_path / "t", ["ec"], {"P0_1": ["a"], "P0_2": ["a"]})
    assert describe(build(tmp_path, "s", OF, labels=table).manifest.labels[0]).startswith("1 value, most ")


def test_other_labels_are_another_store_and_a_changed_byte_is_seen(
    tmp_path: Path, table: Path, rows: dict[str, list[str]]
):
    store = build(tmp_path, "store", OF, labels=table, label_numbers=("temp",))
    changed = write_table(tmp_path / "c", ["ec", "temp"], {**rows, next(iter(rows)): ["4.2", "11.0"]})
    assert build(tmp_path, "c.store", OF, labels=changed, label_numbers=("temp",)).content_hash != (
        store.content_hash
    )
    file = store.path / "train" / "label-ec.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert any("label-ec.npy: the content has changed" in problem for problem in verify_store(store.path))
    file.write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"label-ec\.npy has"):
        TokenStore.open(store.path)


def test_labels_travel_to_the_nodes_copy(tmp_path: Path, table: Path):
    store = build(tmp_path, "store", OF, labels=table, label_numbers=("temp",))
    staged = stage_store(store.path, str(tmp_path / "scratch"))
    assert staged.problem is None
    assert labels_of(staged.store, "ec") == labels_of(store, "ec")


def test_a_sample_keeps_labels_with_its_sequences(tmp_path: Path, table: Path, rows: dict[str, list[str]]):
    store = build(tmp_path, "store", OF, labels=table, label_numbers=("temp",), sample=100)
    found, of_sequence = labels_of(store, "ec"), {OF[name]: cells[0] or None for name, cells in rows.items()}
    assert len(found) == 100
    assert all(of_sequence[sequence] == label for sequence, label in found.items())
