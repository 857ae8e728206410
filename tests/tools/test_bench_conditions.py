"""The parts of tools/bench_conditions.py: who is held out, and what its classifier can tell."""

import random
from pathlib import Path

import pytest

from tools import bench_conditions as bench


def test_half_of_a_label_is_held_out_and_copies_are_on_one_side(tmp_path: Path):
    fasta, clusters = tmp_path / "p.fasta", tmp_path / "c.tsv"
    texts = [f"MKV{'ACDEFGHIK'[n]}" for n in range(9)]
    names = [f"sp|P{n}|X_Y some protein" for n in range(9)]
    records = [*zip(names, texts, strict=True), ("sp|P20|X_Y", texts[0])]
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in records))
    clusters.write_text("".join(f"P0\tP{n}\n" for n in range(6)) + "P6\tP6\nP6\tP7\n")
    trains, holds, others = bench.shared_out(fasta, bench.read_labels(clusters, 3))
    assert [text for _, text in trains] == texts[0:6:2]
    assert [text for _, text in holds] == texts[1:6:2]
    assert {label for label, _ in trains + holds} == {"P0"}
    assert [record.text for record in others] == texts[6:9]


def test_the_classifier_tells_families_apart_and_nothing_from_noise():
    draw = random.Random(0)

    def family(letters: str, count: int) -> list[tuple[str, str]]:
        return [(letters, "".join(draw.choices(letters + bench.LETTERS, k=150))) for _ in range(count)]

    names = ["AAAACC", "KKKKLL", "WWWWYY"]
    classifier = bench.Classifier(names, [one for name in names for one in family(name, 30)])
    assert bench.share_of_own(classifier, [one for name in names for one in family(name, 30)]) > 0.9
    noise = [(name, "".join(draw.choices(bench.LETTERS, k=150))) for name in names for _ in range(60)]
    # Whatever it says of them, over all labels it is right as often as chance is.
    assert bench.share_of_own(classifier, noise) == pytest.approx(1 / 3, abs=0.15)
