"""The data room at the size of UniRef50, 62 million different proteins in 27 GB: time and memory of each command.

    python tools/bench_uniref50.py SCRATCH --fasta real.fasta.gz

SCRATCH needs 60 GB. The synthetic FASTA stays there and is used again by the next call; the rest is removed. Memory is
that of all processes of a command together, shared pages counted once. Figures go to SCRATCH/figures.json as they come.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from _measured import measured
from _synthetic import Likeness, write_synthetic_clusters, write_synthetic_fasta
from isal import igzip

REAL = Path(__file__).parents[1] / "jobs" / "data" / "uniprot2k.fasta.gz"
SCALE = 0.7  # UniRef50's proteins are shorter than those of UniProt that somebody has looked at
SEDD = (sys.executable, "-m", "sedd", "data")
POSITION = """
import sys, time
from pathlib import Path
from sedd.data.batches import Batches
from sedd.data.store import TokenStore
start = time.perf_counter()
Batches(TokenStore.open(Path(sys.argv[1]))).micro_batch(8_000_000)
print(time.perf_counter() - start)
"""
QUANTILES = """
import sys, numpy, pathlib
from sedd.data.store import TokenStore
split = TokenStore.open(pathlib.Path(sys.argv[1])).split("train")
split.length_quantiles(numpy.linspace(0, 1, 1001), max_length=512)
"""


class Table:
    """Rows of figures; each is printed and written down when it is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def run(self, name: str, command: Sequence[str], *, read: int = 0) -> str:
        """Measure a command that reads this many bytes of FASTA text."""
        done = measured(command)
        row = {"seconds": done.seconds, "peak MB": done.peak_mb, "processes": done.processes}
        if read:
            row["MB/s"] = read / 1e6 / done.seconds
        self.add(name, row)
        return done.output

    def add(self, name: str, row: dict[str, float]) -> None:
        self.rows[name] = self.rows.get(name, {}) | {key: round(value, 2) for key, value in row.items()}
        self._path.write_text(json.dumps(self.rows, indent=1) + "\n")
        print(f"{name:40}", *(f"{key} {value:,.2f}" for key, value in self.rows[name].items()), flush=True)


def main() -> None:
    options = parse_arguments()
    folder: Path = options.scratch
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(folder / "figures.json")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    like = Likeness.of(options.fasta, scale=SCALE)
    plain = written(
        folder / "uniref50.fasta", lambda path: write_synthetic_fasta(path, like, sequences=options.sequences)
    )
    if "plain" in options.only:
        bench_plain(table, folder, plain)
    if "store" in options.only:
        bench_store(table, folder, plain, like)
    if "clusters" in options.only:
        bench_clusters(table, folder, plain, options.sequences)
    if "gzip" in options.only:
        bench_gzip(table, folder, plain, options.gzip_gigabytes)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--fasta", type=Path, default=REAL, help="real proteins (default: the quickstart's)")
    parser.add_argument("--sequences", type=int, default=62_000_000)
    parser.add_argument("--gzip-gigabytes", type=float, default=4.0, help="of text, for the gzip file")
    parser.add_argument("--only", nargs="+", default=["plain", "store", "clusters", "gzip"])
    return parser.parse_args()


def written(path: Path, write: Callable[[Path], None]) -> Path:
    """A file that is there, or is made now."""
    if not path.exists():
        aside = path.with_suffix(".writing")
        write(aside)
        aside.rename(path)
    return path


def bench_plain(table: Table, folder: Path, plain: Path) -> None:
    """With few processes and with many; what they build is the same. The last store stays."""
    store, hashes = folder / "store", set()
    size = plain.stat().st_size
    for workers in (8, 2):
        shutil.rmtree(store, ignore_errors=True)
        command = (*SEDD, "build", str(plain), "-o", str(store), "--workers", str(workers), "--json")
        built = json.loads(table.run(f"build, {workers} processes", command, read=size))
        hashes.add(built["content_hash"])
        in_store = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        table.add(f"build, {workers} processes", {"GB of FASTA": size / 1e9, "GB of store": in_store / 1e9})
    splits = built["splits"].values()
    counts = {name: float(sum(split[name] for split in splits)) for name in ("sequences", "residues")}
    table.add("the store", counts | {"duplicates": built["tally"]["duplicates"], "contents": len(hashes)})


def bench_store(table: Table, folder: Path, plain: Path, like: Likeness) -> None:
    """What is done with a store, and more added to it: a million new proteins and a million that it has."""
    store, more, larger = folder / "store", folder / "more.fasta", folder / "larger"
    table.run("info", (*SEDD, "info", str(store)))
    table.run("verify", (*SEDD, "verify", str(store)))
    seconds = table.run("batches at step 1,000,000", (sys.executable, "-c", POSITION, str(store)))
    table.add("batches at step 1,000,000", {"of which without the interpreter's start": float(seconds)})
    table.run("quantiles of lengths", (sys.executable, "-c", QUANTILES, str(store)))
    write_synthetic_fasta(more, like, sequences=1_000_000, first=1_000_000_000)
    with plain.open("rb") as old, more.open("ab") as file:
        file.write(old.read(435_000_000).rpartition(b"\n>")[0] + b"\n")
    command = (*SEDD, "build", str(more), "--onto", str(store), "-o", str(larger), "--json")
    built = json.loads(table.run("build --onto it", command, read=more.stat().st_size))
    table.add("build --onto it", {"duplicates": built["tally"]["duplicates"]})
    shutil.rmtree(larger)
    more.unlink()


def bench_clusters(table: Table, folder: Path, plain: Path, sequences: int) -> None:
    """With a cluster table that names every protein."""
    clusters, store = folder / "clusters.tsv", folder / "store"
    write_synthetic_clusters(clusters, sequences=sequences)
    shutil.rmtree(store, ignore_errors=True)
    command = (
        *SEDD,
        "build",
        str(plain),
        "-o",
        str(store),
        "--workers",
        "8",
        "--clusters",
        str(clusters),
        "--json",
    )
    built = json.loads(table.run("build with clusters, 8 processes", command, read=plain.stat().st_size))
    table.add("build with clusters, 8 processes", {"unclustered": built["tally"]["unclustered"]})
    shutil.rmtree(store)
    clusters.unlink()


def bench_gzip(table: Table, folder: Path, plain: Path, gigabytes: float) -> None:
    """A gzip file of some of it, with few processes and with many."""
    packed, store = folder / "part.fasta.gz", folder / "store of gzip"
    left = size = min(int(gigabytes * 1e9), plain.stat().st_size)
    with plain.open("rb") as text, igzip.open(packed, "wb", compresslevel=1) as file:
        while left > 0 and (piece := text.read(min(1 << 22, left))):
            file.write(piece)
            left -= len(piece)
    for workers in (8, 2):
        shutil.rmtree(store, ignore_errors=True)
        command = (*SEDD, "build", str(packed), "-o", str(store), "--workers", str(workers))
        table.run(f"build from {size / 1e9:.1f} GB in gzip, {workers} processes", command, read=size)
    shutil.rmtree(store)
    packed.unlink()


if __name__ == "__main__":
    main()
