"""How fast is the data room? Each figure beside what bounds it, in one run on one machine.

    python tools/bench_data.py --gigabytes 2 --fasta real.fasta.gz

* build: `sedd data build` on synthetic FASTA (60 columns; lengths and composition of a real file), then on that file
  itself, beside the readers that are installed here, which merely iterate over it: pip install pyfastx needletail
  dnaio biopython
* batches: residues per second of packed batches from the real file
* position: time and memory to reach step 1,000,000 of a store of 60 million sequences

Figures of several rounds; a row tells the best. Prints a table, and JSON with --json.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from _measured import measured
from _synthetic import Likeness, write_synthetic_fasta
from isal import igzip

from sedd.data.batches import Batches
from sedd.data.build import build_store, usable_cores
from sedd.data.files import HEADER_BYTES, NpyWriter
from sedd.data.manifest import Manifest, Shard, SplitManifest, write_manifest
from sedd.data.store import TokenStore
from sedd.spec.build import BuildOptions

REAL = Path(__file__).parents[1] / "jobs" / "data" / "uniprot2k.fasta.gz"
READERS: dict[str, Callable[[str], Iterator[object]]] = {
    "pyfastx": lambda path: importlib.import_module("pyfastx").Fasta(path, build_index=False),
    "needletail": lambda path: importlib.import_module("needletail").parse_fastx_file(path),
    "dnaio": lambda path: importlib.import_module("dnaio").open(path),
    "Bio": lambda path: importlib.import_module("Bio.SeqIO.FastaIO").SimpleFastaParser(
        Path(path).open()  # noqa: SIM115 - lives as long as the benchmark
    ),
}


def main() -> None:
    options = parse_arguments()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        if "build" in options.only:
            results["build"] = bench_build(options.fasta, folder, options.gigabytes, options.rounds)
        if "batches" in options.only:
            results["batches"] = bench_batches(options.fasta, folder)
        if "position" in options.only:
            results["position"] = bench_position(folder, options.sequences)
    for section, figures in results.items():
        print(f"{section} ({os.cpu_count()} cores, {usable_cores()} used)", file=sys.stderr)
        for name, figure in figures.items():
            print(f"  {name:70} {figure:12,.2f}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=1))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the synthetic FASTA")
    parser.add_argument("--fasta", type=Path, default=REAL, help="real proteins (default: the quickstart's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=60_000_000, help="of the store to position in")
    parser.add_argument("--scratch", type=Path, help="folder for large files; a tmpfs leaves out the disk")
    parser.add_argument("--only", nargs="+", default=["build", "batches", "position"])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def bench_build(real: Path, folder: Path, gigabytes: float, rounds: int) -> dict[str, float]:
    """MB/s of FASTA text: of the synthetic file, then of the real one."""
    plain, packed = folder / "synthetic.fasta", folder / "synthetic.fasta.gz"
    write_synthetic_fasta(plain, Likeness.of(real), size_bytes=int(gigabytes * 1e9))
    with plain.open("rb") as text, igzip.open(packed, "wb", compresslevel=3) as file:
        while piece := text.read(1 << 22):
            file.write(piece)
    rates = bench_file(plain, packed, folder, rounds)
    build = [sys.executable, "-m", "sedd", "data", "build", str(packed), "-o", str(folder / "store")]
    rates["peak memory of all processes of a build, MB"] = measured(build).peak_mb
    with (folder / "real.fasta").open("wb") as file, igzip.open(real) as text:
        shutil.copyfileobj(text, file)
    of_real = bench_file(folder / "real.fasta", real, folder, 5 * rounds)
    return rates | {f"{real.name}: {name}": rate for name, rate in of_real.items()}


def bench_file(plain: Path, packed: Path, folder: Path, rounds: int) -> dict[str, float]:
    """The same text plain and in gzip: merely read, and built."""
    work: dict[str, Callable[[], object]] = {
        f"{name} iterates": lambda read=read: sum(1 for _ in read(str(plain)))
        for name, read in READERS.items()
        if importlib.util.find_spec(name)
    }
    work["ISA-L inflates"] = lambda: _inflate(packed)
    for name, path in (("plain", plain), ("gzip", packed)):
        work[f"build from {name}"] = lambda path=path: build_store([path], folder / "store")
    seconds = {name: float("inf") for name in work}
    for _ in range(rounds):  # in turns, so that a busy moment of the machine falls on all
        for name, run in work.items():
            shutil.rmtree(folder / "store", ignore_errors=True)
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    shutil.rmtree(folder / "store")
    rates = {f"{name}, MB/s": plain.stat().st_size / 1e6 / s for name, s in seconds.items()}
    fastest = min((s for name, s in seconds.items() if name.endswith("iterates")), default=float("nan"))
    rates["build from plain / fastest reader (0.5 wanted)"] = fastest / seconds["build from plain"]
    rates["build from gzip / ISA-L (0.7 wanted)"] = seconds["ISA-L inflates"] / seconds["build from gzip"]
    return rates


def _inflate(path: Path) -> None:
    with igzip.open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def bench_batches(real: Path, folder: Path) -> dict[str, float]:
    """Million residues per second on one core."""
    build_store([real], folder / "real", BuildOptions(validation_fraction=0))
    figures = {}
    for max_length in (512, 1024):
        batches = Batches(TokenStore.open(folder / "real"), max_length=max_length)
        start = time.perf_counter()
        for index in range(500):
            batches.micro_batch(index)
        rate = 500 * batches.residues / (time.perf_counter() - start) / 1e6
        figures[f"M residues/s at max_length {max_length} (2 wanted)"] = rate
    return figures


def bench_position(folder: Path, sequences: int) -> dict[str, float]:
    """Seconds and MB to the micro-batch at step 1,000,000 of 8 micro-batches each, in a process of its own."""
    write_hollow_store(folder / "hollow", sequences)
    code = f"""
import time
from pathlib import Path
from sedd.data.batches import Batches
from sedd.data.store import TokenStore

def peak_kb():  # VmHWM and not ru_maxrss, which a child has from its parent
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

imported = peak_kb()
start = time.perf_counter()
Batches(TokenStore.open(Path({str(folder / "hollow")!r}))).micro_batch(8_000_000)
print(time.perf_counter() - start, peak_kb() / 1e3, imported / 1e3)
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in "123"
    ]
    seconds, peak, imported = min(tuple(map(float, run.stdout.split())) for run in runs)
    return {
        f"seconds with {sequences / 1e6:.0f} M sequences (1 wanted)": seconds,
        "peak memory, MB (500 wanted)": peak,
        "of which before opening the store, MB": imported,
    }


def write_hollow_store(folder: Path, sequences: int) -> None:
    """A store with real offsets whose tokens are holes in files: as large to search as a full one."""
    draw = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    (folder / "validation").mkdir()
    shards, first, residues, per_shard = [], 0, 0, 3_000_000
    with NpyWriter(folder / "train" / "offsets.npy", "<i8") as offsets:
        offsets.write(np.zeros(1, np.int64))
        while first < sequences:
            lengths = draw.lognormal(5.6, 0.7, min(per_shard, sequences - first)).astype(np.int64) + 10
            offsets.write(residues + np.cumsum(lengths))
            shard = Shard(
                file=f"tokens-{len(shards):05d}.npy",
                first_sequence=first,
                sequences=len(lengths),
                residues=int(lengths.sum()),
                checksum="",
            )
            _write_hole(folder / "train" / shard.file, "|u1", shard.residues)
            shards.append(shard)
            first, residues = first + shard.sequences, residues + shard.residues
    _write_hole(folder / "train" / "hashes.npy", "<u8", sequences)
    with NpyWriter(folder / "validation" / "offsets.npy", "<i8") as offsets:
        offsets.write(np.zeros(1, np.int64))
    _write_hole(folder / "validation" / "hashes.npy", "<u8", 0)
    splits = {
        name: SplitManifest(
            sequences=n, residues=r, composition=(), lengths={"max": 40_000}, offsets_checksum="",
            hashes_checksum="", shards=s,
        )
        for name, n, r, s in (("train", sequences, residues, tuple(shards)), ("validation", 0, 0, ()))
    }  # fmt: skip
    write_manifest(
        folder, Manifest(content_hash="", created="", options={}, inputs=(), splits=splits, tally={})
    )


def _write_hole(path: Path, dtype: str, count: int) -> None:
    with NpyWriter(path, dtype) as writer:
        writer.count = count
    os.truncate(path, HEADER_BYTES + count * np.dtype(dtype).itemsize)


if __name__ == "__main__":
    main()
