"""Made-up proteins and files of them, for the tests of this room."""

import random
from pathlib import Path


def made_up_proteins(count: int, *, longest: int = 300, seed: int = 0) -> list[str]:
    """Distinct random sequences over the twenty amino acids, of 1 to `longest` residues."""
    draw = random.Random(seed)
    lengths = [draw.randint(1, longest) for _ in range(count)]
    return list(dict.fromkeys("".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=n)) for n in lengths))


def write_fasta(path: Path, sequences: list[str]) -> Path:
    """One record a sequence, named P0, P1, …"""
    path.write_text("".join(f">P{i} made up\n{s}\n" for i, s in enumerate(sequences)), encoding="utf-8")
    return path
