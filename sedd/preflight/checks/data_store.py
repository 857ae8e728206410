"""The token store: there, whole, of our alphabet, and large enough for a batch."""

import errno
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.errors import DataError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.spec.experiment import Experiment
from sedd.units import format_bytes, format_count

if TYPE_CHECKING:
    from sedd.data.store import TokenStore

# What is read in full to compare checksums; of a larger store the first shards.
_READ_BYTES = {Side.LOGIN: 256 << 20, Side.NODE: 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    store: Path
    problem: str | None = None
    """What is wrong with the store as a whole; then nothing else of it is known."""
    hint: str | None = None
    is_lost: bool = False
    """Whether its file system does not give it out, such as a mount that has gone stale."""
    train_sequences: int = 0
    train_residues: int = 0
    validation_residues: int = 0
    residues_per_step: int = 0
    wanted_validation_residues: int = 0
    content_hash: str = ""
    compared_bytes: int = 0
    total_bytes: int = 0
    damaged: tuple[str, ...] = ()
    """Files whose content is not what was built."""
    notes: tuple[str, ...] = ()
    """What the build warned of."""


def gather(context: CheckContext) -> Facts | None:
    if not context.is_first_here:
        return None
    from sedd.data.manifest import store_near
    from sedd.data.mixture import joint_hash  # numpy: a tenth of a second
    from sedd.data.store import TokenStore

    training, opened = context.training_run.training, []
    for path in context.training_run.data.stores:
        try:
            opened.append(TokenStore.open(path))
        except DataError as e:
            hint = e.hint if path.exists() or store_near(path) else _build_command(path)
            return Facts(store=path, problem=e.message, hint=hint)
        except OSError as e:
            problem = f"{path}: {(e.strerror or str(e)).lower()}"
            is_forbidden = e.errno in (errno.EACCES, errno.EPERM)
            return Facts(
                store=path,
                problem=problem,
                hint="make it readable for your user"
                if is_forbidden
                else "does its file system answer there?",
                is_lost=not is_forbidden,
            )
    limit = _READ_BYTES[context.side] // len(opened)
    compared = [_ask(context, store, limit) for store in opened]
    trains = [store.split("train") for store in opened]
    validation = opened[0].split("validation")
    return Facts(
        store=opened[0].path,
        train_sequences=sum(train.sequences for train in trains),
        train_residues=sum(train.residues for train in trains),
        validation_residues=validation.residues,
        residues_per_step=training.residues_per_step,
        wanted_validation_residues=training.validation.residues,
        content_hash=joint_hash(opened),
        compared_bytes=sum(count for _, count in compared),
        total_bytes=sum(split.residues for store in opened for split in store.manifest.splits.values()),
        damaged=tuple(file for files, _ in compared for file in files),
        notes=tuple(note for store in opened for note in store.manifest.notes),
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        hint = facts.hint or "build it: sedd data build proteins.fasta -o STORE"
        return fail(facts.problem, hint, Fault.NODE if facts.is_lost else None)
    if facts.damaged:
        return fail(
            f"{', '.join(facts.damaged)} in {facts.store}: not the content that was built",
            "build the store again, with --force",
            Fault.NODE,  # the login node read the right content: the same files may be read wrongly here
        )
    part = (
        "" if facts.compared_bytes == facts.total_bytes else f", first {format_bytes(facts.compared_bytes)}"
    )
    saw = (
        f"{facts.train_sequences:,} proteins, {format_count(facts.train_residues)} residues to train on; "
        f"checksums agree{part} ({facts.content_hash[:12]})"
    )
    if facts.train_residues < facts.residues_per_step:
        return fail(
            f"{facts.train_residues:,} residues in {facts.store}, {facts.residues_per_step:,} in one batch",
            "more data, or a smaller training.residues_per_step",
        )
    if facts.validation_residues == 0:
        return fail(
            f"{facts.store} has no validation proteins", "build it with a larger --validation-fraction"
        )
    if facts.validation_residues < facts.wanted_validation_residues:
        return warn(
            f"{saw}; only {facts.validation_residues:,} of {facts.wanted_validation_residues:,} validation residues",
            "the bound has a wider error bar: build with a larger --validation-fraction",
        )
    if facts.notes:
        return warn(
            f"{saw}; when it was built: {'; '.join(facts.notes)}",
            f"look: sedd data info {shlex.quote(str(facts.store))}",
        )
    return ok(saw)


def _ask(context: CheckContext, store: "TokenStore", limit_bytes: int) -> tuple[tuple[str, ...], int]:
    return context.answers.once(("content", store.path, limit_bytes), lambda: _compare(store, limit_bytes))


def _compare(store: "TokenStore", limit_bytes: int) -> tuple[tuple[str, ...], int]:
    """Files that differ from their checksum, and how many bytes of tokens were compared."""
    from sedd.conditions.label_fields import label_files
    from sedd.data.files import HEADER_BYTES, file_checksum

    damaged, compared, read = [], 0, 0
    for name, split in store.manifest.splits.items():
        files = [(shard.file, shard.checksum, shard.residues, shard.residues) for shard in split.shards]
        files.append(("offsets.npy", split.offsets_checksum, 8 * split.sequences, 0))
        files.append(("hashes.npy", split.hashes_checksum, 8 * split.sequences, 0))
        labels = label_files(store.manifest.labels, name, split.sequences)
        files += [(file, checksum, 4 * count, 0) for file, (checksum, _, count) in labels.items()]
        for file, checksum, size, residues in files:
            if read and read + size > limit_bytes:
                continue
            read, compared = read + size, compared + residues
            if file_checksum(store.path / name / file, skip=HEADER_BYTES) != checksum:
                damaged.append(f"{name}/{file}")
    return tuple(damaged), compared


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _build_command(store: Path) -> str:
    """How to make a store that is not there. Only a FASTA of its name is taken for its source; another is mentioned."""
    patterns = ("*.fasta", "*.fasta.gz", "*.fa", "*.fa.gz")
    beside = [path for pattern in patterns for path in store.parent.glob(pattern)]
    named = [path for path in beside if _stem(path) == _stem(store)]
    if named:
        clusters = f" --clusters {_quoted(found)}" if (found := _clusters_of(named[0])) else ""
        return f"make it with: sedd data build {_quoted(named[0])}{clusters} -o {_quoted(store)}"
    if "uniref" in store.name.lower():
        source = store.parent / "uniref50.fasta.gz"
        return (
            f"download it with: python3 tools/fetch_uniref50.py -o {_quoted(source)}, "
            f"then submit the spec that builds it: task: data, such as jobs/uniref50_data.yaml"
        )
    make = f"make it with: sedd data build proteins.fasta -o {_quoted(store)}"
    if len(beside) != 1:
        return make
    clusters = f", and {found.name} for --clusters" if (found := _clusters_of(beside[0])) else ""
    return f"{make}; in that folder is {beside[0].name}{clusters}"


def _clusters_of(fasta: Path) -> Path | None:
    """The table of clusters beside a FASTA file, by its name."""
    table = fasta.parent / f"{_stem(fasta)}_clusters.tsv"
    return table if table.is_file() else None


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    reads=(("data",),),
    catches="no store, one cut short, swapped or of another alphabet; fewer residues than a batch",
    takes="0.2 s + 1 s a GiB",
    passing=Facts(
        store=Path("/data/uniref50"),
        train_sequences=1_900_000,
        train_residues=500_000_000,
        validation_residues=1_000_000,
        residues_per_step=131_072,
        wanted_validation_residues=262_144,
        content_hash="0f3a5c7e9b1d2468",
        compared_bytes=268_435_456,
        total_bytes=501_000_000,
    ),
    failing=Facts(
        store=Path("/data/uniref50"),
        problem="/data/uniref50 does not exist",
        hint="make it with: sedd data build proteins.fasta -o …",
    ),
)
