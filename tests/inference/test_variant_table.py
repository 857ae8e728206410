"""Tables of mutants as people have them."""

import gzip
from pathlib import Path

import pytest

from sedd.data.records import Record
from sedd.errors import DataError, UsageError
from sedd.inference.variant_table import MUTANT_COLUMNS, read_variants
from sedd.inference.variants import letters_of, scan, share_of

WILD_TYPE = Record("w", "MKTAY")


def read(folder: Path, text: str, *wild_types: Record, offset: int = 0, name: str = "mutants.csv"):
    (folder / name).write_text(text)
    return read_variants(folder / name, wild_types or [WILD_TYPE], offset=offset)


def mutants(table) -> list[str]:
    return ["".join(letters_of(one.mutant)) for one in table.variants]


def test_a_scan_is_every_other_amino_acid_at_every_position():
    table = scan([WILD_TYPE], offset=10)
    assert len(table.variants) == 5 * 19 == len(set(mutants(table)))
    assert table.columns["mutant"][:2] == ["M11A", "M11C"]
    assert all(len(one.sites) == 1 for one in table.variants)


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        (
            '"mutant";"fitness"\n"K2A";"1,5"\n',
            '1: columns are separated by semicolons: \'"mutant";"fitness"\'',
            "separate them by commas (CSV) or tabs (TSV); write 1,5 with a point: 1.5",
        ),
        (
            "fitness mutant\n1.5 K2A\n",
            "1: columns are separated by spaces: 'fitness mutant'",
            "separate them by commas (CSV) or tabs (TSV)",
        ),
        (
            '"mutant"|"fitness"\nK2A|1\n',
            '1: columns are separated by bars: \'"mutant"|"fitness"\'',
            "separate them by commas (CSV) or tabs (TSV)",
        ),
        (
            "mutant,fitness\nK2A,1\nT3A,1,5\n",
            "3: 3 cells, the header has 2",
            "a number with a comma? write 1,5 with a point: 1.5",
        ),
        (
            "mutant\tfitness\nK2A,1\n",
            "2: 1 cell, the header has 2",
            "columns are separated by commas here, by tabs in the header",
        ),
        (
            ">w a, b\nMKT\n",
            "mutants.csv is a FASTA file, not a table of mutants",
            "give wild types with --fasta, and mutants as a CSV or TSV with a column mutant (A24G)",
        ),
        ("mutant,fitness\nK2A,1,T\n", "2: 3 cells, the header has 2", None),
    ],
)
def test_what_separates_columns_and_decimals_is_told(tmp_path: Path, text: str, told: str, hint: str | None):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert caught.value.message.endswith(told)
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["mutant\nK2A;T3A\n", "mutant\nK2A T3A\n", "my mutant,mutant\n1,K2A\n"])
def test_what_separates_substitutions_separates_no_columns(tmp_path: Path, text: str):
    assert len(read(tmp_path, text).variants) == 1


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("mutant\nK2A\n", "no column of the table says which is meant", "name it in a column protein"),
        ("mutant,target\nK2A,\n", "column target is empty here", "name it in that column"),
    ],
)
def test_a_row_that_does_not_say_which_of_several_wild_types_it_changes_is_told_so(
    tmp_path: Path, text: str, told: str, hint: str
):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, *(Record(f"w{n}", "MKT") for n in range(7)))
    assert caught.value.message.endswith(
        f":2: the FASTA file has 7 wild types (w0, w1, w2, w3, w4, …), and {told}"
    )
    assert caught.value.hint == hint


@pytest.mark.parametrize("column", [*MUTANT_COLUMNS, "Mutant"])
def test_names_of_one_and_more_substitutions(tmp_path: Path, column: str):
    table = read(tmp_path, f"{column},x\nK2A,1\nk2a:Y5W,2\n_wt,3\np.M1L,4\n")
    assert mutants(table) == ["MATAY", "MATAW", "MKTAY", "LKTAY"]
    assert [one.sites for one in table.variants] == [(1,), (1, 4), (), (0,)]
    assert table.columns == {column: ["K2A", "k2a:Y5W", "_wt", "p.M1L"], "x": ["1", "2", "3", "4"]}


def test_tabs_an_offset_and_a_byte_order_mark(tmp_path: Path):
    table = read(tmp_path, "\ufeffid\tmutation\na\tK25A\n", offset=23, name="m.tsv")
    assert mutants(table) == ["MATAY"]


def test_proteingym_has_whole_sequences_and_insertions(tmp_path: Path):
    table = read(tmp_path, "mutant,mutated_sequence,DMS_score\nK2A,MATAY,0.5\nindel,MKKTAY,0.1\n")
    assert mutants(table) == ["MATAY", "MKKTAY"]
    assert [one.is_substitution for one in table.variants] == [True, False]


def test_without_a_wild_type_a_name_takes_its_substitutions_back(tmp_path: Path):
    (tmp_path / "g.csv").write_text("mutant,mutated_sequence\nK2A:Y5W,MATAW\n")
    (one,) = read_variants(tmp_path / "g.csv", [], offset=0).variants
    assert "".join(letters_of(one.wild_type)) == "MKTAY"


def test_several_wild_types_are_told_apart_by_a_column(tmp_path: Path):
    other = Record("v", "WWW")
    table = read(tmp_path, "protein,mutant\nv,W1A\nw,K2A\n", WILD_TYPE, other)
    assert mutants(table) == ["AWW", "MATAY"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "mutant\nK2A\nA2K\n",
            "mutants.csv:3: 'A2K' names A at 2, the wild type has K there",
            "--offset is 0",
        ),
        (
            "mutant\nK25A\nT26A:A27G\nwt\n",
            "mutants.csv:2: 'K25A' names K at 25",
            "with --offset 23 every row fits",
        ),
        (
            "mutant\nK25A\nT26A\n",
            "mutants.csv:2",
            "--offset 23 would fit, perhaps by chance: the table names 2",
        ),
        ("mutant\nA99G\nA99V\nA99L\n", "mutants.csv:2", "--offset 95 would fit, perhaps by chance"),
        ("mutant\nK25A\nT26A\nA27G\nM2X9\n", "mutants.csv:2: 'K25A'", "--offset is 0"),
        ("mutant\nK25A\nT26A\nA27X\n", "mutants.csv:2: 'K25A'", "--offset is 0"),
        ("mutant\nK0A\n", "has nothing there", ""),
        ("mutant\nK2A:T3A:K2W\n", "mutants.csv:2: 'K2A:T3A:K2W' changes position 2 twice", ""),
        ("mutant\nK2*\n", "'K2*' is not a substitution", "mutated_sequence"),
        ("mutant\nK2J\n", "'J' is none of the twenty", ""),
        ("mutant,x\nK2A\n", "mutants.csv:2: 1 cell, the header has 2", ""),
        ('mutant,x\nK2A,"a note\nT3A,2\n', "mutants.csv:3: not a CSV or TSV table: unexpected end", ""),
        pytest.param(f"mutant\n{'A' * 200_000}\n", "mutants.csv:2: not a CSV or TSV table", "", id="large"),
        ("name\nK2A\n", "no column of mutants: seen name", "name it mutant"),
        ("mutant\n", "no row below its header", ""),
        ("mutated_sequence\nMK-AY\n", "mutants.csv:2: a gap", ""),
        ("mutated_sequence\nMK1AY\n", "mutants.csv:2: '1'", ""),
    ],
)
def test_what_does_not_fit_is_named_by_its_row(tmp_path: Path, text: str, message: str, hint: str):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_an_offset_is_offered_only_where_no_other_fits(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, "mutant\nM11A\nK12A\nT13A\n", Record("w", "MKTMKT"))
    assert "--offset is 0" in (caught.value.hint or "")


def test_a_mutant_without_any_wild_type_asks_for_one(tmp_path: Path):
    (tmp_path / "m.csv").write_text("mutant\nK2A\n")
    with pytest.raises(UsageError, match="no wild type"):
        read_variants(tmp_path / "m.csv", [])


def test_a_protein_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no wild type 'u'; the FASTA file has w, v"):
        read(tmp_path, "protein,mutant\nu,W1A\n", WILD_TYPE, Record("v", "WWW"))


@pytest.mark.parametrize("column", ["protein", "wild_type", "target"])
def test_one_wild_type_is_not_taken_for_the_several_of_a_column(tmp_path: Path, column: str):
    with pytest.raises(DataError, match=r"m.*:3: no wild type 'p63'; the FASTA file has p53") as caught:
        read(tmp_path, f"{column},mutant\nP53,K2A\np63,K2A\n", Record("p53", "MKTAY"))
    assert "one table for each protein" in (caught.value.hint or "")


@pytest.mark.parametrize("names", [("P53_HUMAN", "P53_HUMAN"), ("p53", ""), ("", "")])
def test_one_wild_type_is_taken_whatever_a_column_calls_it(tmp_path: Path, names: tuple[str, str]):
    """A FASTA file's own name for the only protein need not be that of the table."""
    first, second = names
    table = read(tmp_path, f"protein,mutant\n{first},K2A\n{second},K2A\n")
    assert [one.protein for one in table.variants] == ["w", "w"]


@pytest.mark.parametrize("column", ["wild_type", "target"])
def test_residues_and_measured_numbers_are_no_proteins(tmp_path: Path, column: str):
    cells = {"wild_type": ("K", "T"), "target": ("0.25", "nan")}[column]
    assert len(read(tmp_path, f"{column},mutant\n{cells[0]},K2A\n{cells[1]},T3A\n").variants) == 2


def test_wild_types_that_rows_could_not_tell_apart_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="two different wild types are called 'w'"):
        read(tmp_path, "protein,mutant\nw,K2A\n", WILD_TYPE, Record("w", "MKTAYW"))
    assert mutants(read(tmp_path, "protein,mutant\nw,K2A\n", WILD_TYPE, WILD_TYPE)) == ["MATAY"]


@pytest.mark.parametrize("shares", [1, 3, 7])
def test_shares_are_the_whole_table_in_order(shares: int):
    table = scan([WILD_TYPE])
    names = [name for k in range(1, shares + 1) for name in share_of(table, k, shares).columns["mutant"]]
    assert names == table.columns["mutant"]


@pytest.mark.parametrize(
    ("content", "told", "hint"),
    [
        (
            "mutant\nK2A\n".encode("utf-16"),
            "is text in UTF-16, not UTF-8",
            "first: iconv",
        ),  # Excel's "Unicode text"
        (gzip.compress(b"mutant\nK2A\n", mtime=0), "is compressed with gzip", "first: gunzip"),
        (b"PAR1" + bytes(40), "is a Parquet file", "write the table as text: CSV or TSV"),
        (
            "mutant,note\nK2A,é\n".encode("latin-1"),
            "is not text in UTF-8: byte 0xe9 in line 2",
            "if it is Latin-1",
        ),
        (bytes(range(256)), "is binary", "write the table as text: CSV or TSV"),
    ],
)
def test_a_table_that_is_no_text_is_told_so(tmp_path: Path, content: bytes, told: str, hint: str):
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_variants(path, [WILD_TYPE], offset=0)
    assert error.value.message == f"{path} {told}"
    assert (error.value.hint or "").startswith(hint)


def test_two_columns_of_one_name_are_refused_unless_they_have_none(tmp_path: Path):
    """Else the last of them would be read, and the first be missing in the answer."""
    for header in ("mutant,score,score", "mutant,score,mutant"):
        with pytest.raises(DataError, match=r"mutants\.csv:1: two columns are called"):
            read(tmp_path, f"{header}\nM1A,1,5\n")
    assert read(tmp_path, "mutant,score,,\nM1A,1,,\n").columns["score"] == ["1"]


def test_lines_end_as_on_any_system(tmp_path: Path):
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "m.csv").write_bytes(f"mutant,x{end}K2A,1{end}Y5W,2{end}".encode())
        assert mutants(read_variants(tmp_path / "m.csv", [WILD_TYPE], offset=0)) == ["MATAY", "MKTAW"]
