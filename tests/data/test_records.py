"""FASTA record by record."""

from pathlib import Path

import pytest

from sedd.data.records import read_records
from sedd.errors import DataError


def test_records_come_in_order_with_first_words_and_joined_lines(tmp_path: Path):
    path = tmp_path / "p.fasta"
    path.write_text(">a one\nMKV\nLA\n>b\nmw\n")
    assert [(record.name, record.text) for record in read_records(path)] == [("a", "MKVLA"), ("b", "mw")]


def test_nucleotides_are_refused_as_a_build_refuses_them(tmp_path: Path):
    path = tmp_path / "genes.fna"
    path.write_text(">a\n" + "ACGTTGCA" * 100 + "\n")
    with pytest.raises(DataError, match=r"genes\.fna holds nucleotides, not proteins"):
        list(read_records(path))


def test_a_record_without_sequence_is_refused_unless_asked_for(tmp_path: Path):
    path = tmp_path / "p.fasta"
    path.write_text(">a\n>b\nMKV\nsome words here\n")
    with pytest.raises(DataError, match="'>a' has no sequence"):
        list(read_records(path))
    empty, other = read_records(path, allow_empty=True)
    assert (empty.name, empty.text) == ("a", "")
    assert other.words == ("some words here",)
