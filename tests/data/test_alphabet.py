import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.data.alphabet import ALPHABET_HASH, AMINO_ACIDS, MASK, RESIDUES, SIZE, TOKENS, X, decode, encode
from sedd.errors import DataError

# As printed by fair-esm's Alphabet.from_architecture("ESM-1b").all_toks.
ESM_2 = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"


def test_tokens_are_those_of_esm_2_in_its_order():
    assert " ".join(TOKENS) == ESM_2
    assert (SIZE, MASK, X) == (33, 32, 24)


def test_alphabet_hash_is_what_stores_already_carry():
    assert ALPHABET_HASH == "0b82cc0a7c7cf9e5"


def test_twenty_amino_acids_are_among_the_residues():
    assert len(AMINO_ACIDS) == 20
    assert {TOKENS[token] for token in RESIDUES - AMINO_ACIDS} == set("XBUZO")


@given(st.text(alphabet="LAGVSERTIDPKQNFYMHWCXBUZO.-", max_size=50))
def test_decode_reads_back_what_encode_wrote(sequence: str):
    assert decode(encode(sequence)) == sequence
    assert decode(encode(sequence.lower())) == sequence


def test_letters_outside_the_alphabet_become_x_and_a_final_stop_goes():
    assert decode(encode("MJK*V**")) == "MXKXV"


def test_line_ends_are_no_residues():
    assert decode(encode("MK\r\nV \t\n")) == "MKV"


def test_special_tokens_are_written_out():
    assert decode(np.array([20, 32, 7])) == "M<mask>V"


@pytest.mark.parametrize("strange", ["MK1V", "MK>V", "MKéV", "MK_V"])
def test_what_is_no_letter_is_refused_by_name(strange: str):
    with pytest.raises(DataError, match=f"'{strange[2]}'"):
        encode(strange)
