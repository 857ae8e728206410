"""Templates: gaps of a range of lengths, drawn by seed; and what is no template."""

from collections import Counter
from pathlib import Path

import pytest
import scipy.stats

from sedd.data.alphabet import decode
from sedd.data.records import Record
from sedd.design.parents import read_parents
from sedd.design.templates import parse_template, read_templates
from sedd.errors import DataError, UsageError
from sedd.spec.redesign import RedesignOptions


def parsed(text: str):
    return parse_template(Record("motif", text))


def shown(frame) -> str:
    return "".join(
        "_" if free else letter for letter, free in zip(decode(frame.tokens), frame.free, strict=True)
    )


def test_a_gap_has_every_length_of_its_range_equally_often():
    template = parsed("MKV{5-20}_GH")
    texts = [shown(template.frame(0, 0, draw)) for draw in range(3200)]
    assert all(text.startswith("MKV_") and text.endswith("_GH") for text in texts)
    lengths = Counter(text.count("_") for text in texts)
    assert set(lengths) == set(range(5, 21))
    assert scipy.stats.chisquare(list(lengths.values())).pvalue > 1e-4


def test_gaps_are_drawn_apart_from_each_other_and_by_seed_and_counters():
    template = parsed("{0-9}_MK{0-9}?L__{3}_V")
    texts = [shown(template.frame(seed, 0, draw)) for seed in (0, 1) for draw in range(50)]
    assert texts[:50] == [shown(template.frame(0, 0, draw)) for draw in range(50)]
    assert all(text.endswith("L_____V") for text in texts)
    assert len(set(texts)) > 60
    pairs = {(text.index("M"), text.index("L") - text.index("K") - 1) for text in texts}
    assert len({first for first, _ in pairs}) == len({second for _, second in pairs}) == 10


def test_what_has_no_gap_is_always_the_same():
    template = parsed("mk_?A")
    assert {shown(template.frame(seed, 5, seed)) for seed in range(5)} == {"MK__A"}


def test_gaps_may_run_over_lines_of_a_file_and_stand_inline(tmp_path: Path):
    (tmp_path / "motifs.fasta").write_text(">one\nMKV{5-\n7}_GH\n>two\nM_K\n")
    found = read_templates(tmp_path / "motifs.fasta", ["MK {2}_", "A_"])
    assert [template.name for template in found] == ["one", "two", "template_1", "template_2"]
    assert found[0].gaps == ((5, 7),)
    assert shown(found[2].frame(0)) == "MK__"
    assert read_templates(None, ["A_"])[0].name == "template"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("MK{5-20}GH", r"holds \{5-20\} without _ behind it"),
        ("MK{5-20GH", "a brace that is no gap"),
        ("MK{5-}_GH", "a brace that is no gap"),
        ("MK{20-5}_GH", "the first number is the larger"),
        ("MK{1-999999}_GH", "more than 100000"),
        ("MK{0-0}_GH", "no free position"),
        ("MKV", "no free position"),
        ("MJ{1-2}_", "holds J"),
        ("{0-2}_", "without residues"),
        ("{0-1}_{0-3}?", "without residues"),
    ],
)
def test_what_is_no_template_is_told(text: str, told: str):
    with pytest.raises(DataError, match=told):
        parsed(text)
    with pytest.raises(UsageError, match=told):  # as an option it is wrong input, not a file that is damaged
        read_templates(None, [text])


def test_a_gap_alone_begins_at_one_residue():
    assert {shown(parsed("{1-2}_").frame(0, 0, draw)) for draw in range(50)} == {"_", "__"}
    assert {shown(parsed("{0-1}_A").frame(0, 0, draw)) for draw in range(50)} == {"A", "_A"}


def test_two_records_of_one_name_are_refused_as_their_samples_would_have_one_name_too(tmp_path: Path):
    (tmp_path / "p.fasta").write_text(">one first\nMK_\n>two\nM_K\n>one second\nM__\n")
    with pytest.raises(DataError, match=r"p\.fasta: two records are called 'one'"):
        read_templates(tmp_path / "p.fasta", [])
    (tmp_path / "p.fasta").write_text(">one first\nMKA\n>one second\nMKV\n")
    with pytest.raises(DataError, match="two records are called 'one'"):
        read_parents(tmp_path / "p.fasta", RedesignOptions())
