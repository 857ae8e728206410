"""The statistics of a store as JSON and as a picture."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sedd.data.build import build_store
from sedd.data.store_picture import BINS_PER_DOUBLING, PICTURE, length_bin
from tests.data.proteins import write_fasta


@given(st.integers(1, 10**6))
def test_a_bin_holds_the_lengths_between_its_bounds(length: int):
    b = length_bin(length)
    assert 2 ** (b / BINS_PER_DOUBLING) <= length * (1 + 1e-9)
    assert length < 2 ** ((b + 1) / BINS_PER_DOUBLING)


def test_the_histogram_counts_every_sequence(tmp_path: Path):
    source = write_fasta(tmp_path / "a.fasta", ["M", "MK", "MKV", "MKVL", "M" * 64, "W" * 64])
    manifest = build_store([source], tmp_path / "store").manifest
    histograms = [split.length_histogram for split in manifest.splits.values()]
    total = [sum(h[b] if b < len(h) else 0 for h in histograms) for b in range(25)]
    assert {b: count for b, count in enumerate(total) if count} == {0: 1, 4: 1, 6: 1, 8: 1, 24: 2}


def test_the_picture_is_svg_that_names_what_was_dropped(tmp_path: Path):
    source = write_fasta(tmp_path / "a.fasta", ["MKVL", "MKVL", "MWWW"])
    build_store([source], tmp_path / "store")
    picture = ElementTree.parse(tmp_path / "store" / PICTURE)
    told = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "dropped: the same sequence again: 1" in told
    assert {"L", "M", "K", "V", "W"} <= set(told)
