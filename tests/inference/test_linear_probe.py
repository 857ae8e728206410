"""The linear probe of the README runs as it stands, on the quickstart's proteins."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from sedd.data.records import read_records

ROOT = Path(__file__).parents[2]
README = ROOT / "sedd" / "inference" / "README.md"


def test_the_readmes_probe_tells_families_by_what_embeddings_hold(tmp_path: Path):
    """With families written into the vectors it is right; composition alone is not."""
    (code,) = re.findall(r"## Embeddings.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    shutil.copy(ROOT / "jobs/data/uniprot2k.fasta.gz", tmp_path / "proteins.fasta.gz")
    names = [record.name for record in read_records(tmp_path / "proteins.fasta.gz")]
    families = np.arange(len(names)) % 40
    accessions = [name.split()[0].split("|")[1] for name in names]
    lines = [f"family{f}\t{a}" for f, a in zip(families, accessions, strict=True)]
    (tmp_path / "clusters.tsv").write_text("\n".join(lines) + "\n")
    noise = np.random.default_rng(1).normal(size=(len(names), 64))
    np.savez(tmp_path / "embeddings.npz", names=np.array(names), layer_3=noise + 8 * np.eye(64)[families])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    composition, embedding = map(float, re.findall(r"0\.\d+|1\.0+", done.stdout))
    assert embedding > 0.9
    assert composition < 0.3
