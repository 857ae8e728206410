"""Made-up proteins with labels, for the tests of this room."""

import random
from pathlib import Path

from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.spec.build import BuildOptions


def proteins(count: int, seed: int = 0) -> dict[str, str]:
    """By name."""
    draw = random.Random(seed)
    return {
        f"P{seed}_{n}": "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(5, 90)))
        for n in range(count)
    }


def write_fasta(path: Path, of: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} made up\n{sequence}\n" for name, sequence in of.items()))
    return path


def write_table(path: Path, fields: list[str], rows: dict[str, list[str]]) -> Path:
    lines = ["\t".join(["id", *fields]), *("\t".join([name, *cells]) for name, cells in rows.items())]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def labels_of(store: TokenStore, field: str) -> dict[str, object]:
    """By sequence: its label as a reader of the table would write it; None where there is none."""
    from sedd.data.alphabet import decode

    found: dict[str, object] = {}
    (described,) = (f for f in store.manifest.labels if f.name == field)
    for name in ("train", "validation"):
        split = store.split(name)
        for number, label in enumerate(split.label(field).tolist()):
            text = decode(split.tokens(number))
            if described.kind == "number":
                found[text] = None if label != label else label
            else:
                found[text] = None if label < 0 else described.values[label]
    return found


def build(folder: Path, name: str, of: dict[str, str], **options: object) -> TokenStore:
    fasta = write_fasta(folder / f"{name}.fasta", of)
    chosen = BuildOptions(**{"validation_fraction": 0.3, **options})
    return TokenStore.open(build_store([fasta], folder / name, chosen, workers=1).path)
