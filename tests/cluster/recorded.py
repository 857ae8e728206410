"""Recorded and documented SLURM output: see samples/README.md."""

from pathlib import Path

FOLDER = Path(__file__).parent / "samples"
RECORDED = ("22.05.8", "24.11.5")
COMPOSED = sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and path.name not in RECORDED)


def sample(version: str, name: str) -> str:
    return (FOLDER / version / f"{name}.txt").read_text(encoding="utf-8")
