import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.data.alphabet import decode
from sedd.data.encode import (
    Encoded,
    Filters,
    Tally,
    count_codes,
    encode_block,
    lines_of_words,
    require_protein,
)
from sedd.errors import DataError


def _encode(block: str, filters: Filters | None = None) -> tuple[list[str], dict[str, int], Encoded]:
    tally = Tally()
    encoded = encode_block(block.encode("utf-8"), filters or Filters(), tally, source="in.fasta", named=True)
    ends = np.cumsum(encoded.lengths)
    sequences = [decode(s) for s in np.split(np.frombuffer(encoded.tokens, np.uint8), ends)[:-1]]
    return sequences, {name: count for name, count in tally.counts.items() if count}, encoded


def test_lines_case_line_ends_and_blanks_do_not_matter():
    sequences, tally, _ = _encode(">a\r\nMK\r\nvl\r\n\r\n>b x > y\nM K\tV\n")
    assert sequences == ["MKVL", "MKV"]
    assert tally == {"records": 2}


def test_what_is_altered_is_counted():
    sequences, tally, _ = _encode(">a\nMJK*V**\n>b\nM-K.V*\n>c\nMBZUOX\n")
    assert sequences == ["MXKXV", "MKV", "MBZUOX"]
    assert tally == {"records": 3, "letters_to_x": 1, "stops_to_x": 1, "stops_stripped": 3, "gaps_removed": 2}


def test_what_is_dropped_is_counted_by_reason():
    filters = Filters(min_length=3, max_length=6, max_unknown=0.5)
    sequences, tally, encoded = _encode(
        ">no sequence\n>a\nMK\n>b\nMKVLMKV\n>c\nMXXX\n>d\nMKXX\n>only stops\n**\n>end", filters
    )
    assert sequences == ["MKXX"]
    assert encoded.names == [b"d"]
    assert encoded.lengths.tolist() == [4]
    assert tally["empty"] == 3
    assert (tally["too_short"], tally["too_long"], tally["too_unknown"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("body", "seen"), [("MK5V", "'5'"), ("MK\x00V", "byte 0x00"), ("MKéV", "byte 0xc3"), ("MK>V", "'>'")]
)
def test_what_is_no_letter_is_refused_with_its_record(body: str, seen: str):
    with pytest.raises(DataError) as raised:
        _encode(f">a\nMK\n>sp|P1|X\n{body}\n>c\nMK\n")
    assert raised.value.message == f"in.fasta: {seen} in the sequence of 'sp|P1|X' is not an amino acid"


def _letters(alphabet: str, count: int) -> bytes:
    return b">a\n" + "".join(random.Random(0).choices(alphabet, k=count)).encode() + b"\n"


@pytest.mark.parametrize("alphabet", ["ACGT", "ACGU", "acgt", "ACGT" * 10 + "N"])
def test_nucleotides_are_refused(alphabet: str):
    with pytest.raises(DataError, match="nucleotides"):
        require_protein(_letters(alphabet, 1000), "dna.fasta")


@pytest.mark.parametrize("alphabet", ["ACDEFGHIKLMNPQRSTVWY", "A", "GAT", "AG", "ACGTACGTACGTLLLL"])
def test_proteins_of_few_kinds_of_residues_are_not(alphabet: str):
    require_protein(_letters(alphabet, 1000), "protein.fasta")


def test_two_short_genes_are_nucleotides_too():
    with pytest.raises(DataError, match="nucleotides"):
        require_protein(_letters("ACGT", 44) + _letters("ACGT", 44), "dna.fasta")


@pytest.mark.parametrize("kind", ["P1", "F1", "DL", "XX"])
def test_pir_is_refused_by_its_name(kind: str):
    block = f">{kind};CRAB_ANAPL\nALPHA CRYSTALLIN B CHAIN\nMDITIHNPLI*\n".encode()
    with pytest.raises(DataError, match=r"p\.pir is a PIR file, .* '>..;CRAB_ANAPL'"):
        require_protein(block, "p.pir")


def test_a_name_with_a_semicolon_is_not_pir():
    require_protein(b">P1234;x\nMKVLA\n>AB;c\nMKV\n", "protein.fasta")


@pytest.mark.parametrize(
    ("line", "is_text"),
    [
        ("some protein of mine", True),
        ("Crystal structure", True),
        ("MKVLAAGGGW WWMKVLAAGG MKV", False),
        ("MKVLAAGGGW WWMKVLAAGG", False),
        ("MKVLAAGGGW ", False),
        ("MKVLA", False),
        ("", False),
    ],
)
def test_a_line_of_words_inside_a_sequence_is_counted(line: str, is_text: bool):
    assert lines_of_words(f"MKV\n{line}\nACD\n".encode()) == [line] * is_text
    _, tally, _ = _encode(f">a\nMKV\n{line}\n>b\nMK\n")
    assert tally.get("lines_of_words", 0) == is_text


def test_a_short_peptide_is_not_taken_for_nucleotides():
    require_protein(b">a\nGATTACA\n", "peptide.fasta")


@given(st.binary(max_size=300), st.sampled_from([1, 700]))
def test_count_codes_counts_each_byte(codes: bytes, times: int):
    expected = np.bincount(np.frombuffer(codes * times, np.uint8), minlength=256)
    np.testing.assert_array_equal(count_codes(codes * times), expected)


RECORD = st.tuples(st.text("ab >|", max_size=9), st.lists(st.text("MKVLacdW", max_size=9), max_size=4))


@given(st.lists(RECORD, min_size=1, max_size=9), st.booleans())
def test_the_quick_way_gives_what_the_general_one_gives(
    records: list[tuple[str, list[str]]], ends_with_newline: bool
):
    block = "".join(f">{header}\n" + "".join(line + "\n" for line in lines) for header, lines in records)
    quick = _encode(block if ends_with_newline else block[:-1])
    general = _encode(block.replace("\n", "\r\n"))  # line ends of two characters take the general way
    assert quick[:2] == general[:2]
    assert quick[2].names == general[2].names
    np.testing.assert_array_equal(quick[2].hashes, general[2].hashes)
