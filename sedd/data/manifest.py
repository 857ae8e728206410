"""`manifest.json` of a token store: its content, its inputs, and what was dropped or altered."""

import difflib
import json
import math
import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sedd.conditions.label_fields import LabelField, parse_label_field
from sedd.data.alphabet import ALPHABET_HASH
from sedd.errors import DataError, MissingDataError

FORMAT = "sedd-token-store"
VERSION, VERSION_WITH_LABELS = 1, 2
MANIFEST = "manifest.json"
SPLITS = ("train", "validation")
_SHARD_FILE = re.compile(r"tokens-\d+\.npy", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of tokens: whole sequences, numbered `first_sequence` onwards within their split."""

    file: str
    first_sequence: int
    sequences: int
    residues: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitManifest:
    """One side of the train/validation split. `lengths` are residues.

    `composition` counts each token id: in all residues, or of a part beyond 2 Mi in a 64th of them.
    `length_histogram` counts sequences: bin b holds lengths from 2^(b/4) up to 2^((b+1)/4).
    """

    sequences: int
    residues: int
    composition: tuple[int, ...]
    lengths: dict[str, float]
    offsets_checksum: str
    hashes_checksum: str
    shards: tuple[Shard, ...]
    length_histogram: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file that was read; `fingerprint` is over its bytes as they lie on the disk."""

    name: str
    size_bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All of `manifest.json`. `content_hash` names the sequences and their order, however they are sharded."""

    content_hash: str
    created: str
    options: dict[str, Any]
    inputs: tuple[InputFile, ...]
    splits: dict[str, SplitManifest]
    tally: dict[str, int]
    notes: tuple[str, ...] = ()
    labels: tuple[LabelField, ...] = ()
    """What is known of the sequences beside their residues; the manifest of a store without labels is silent."""
    alphabet_hash: str = ALPHABET_HASH
    format: str = FORMAT
    version: int = VERSION
    hint: str = field(default="read me with numpy alone: sedd/data/README.md")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; the caller puts it on the disk and makes the folder appear."""
    document = asdict(manifest)
    if not manifest.labels:
        del document["labels"]
    (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        MissingDataError: no store. DataError: a damaged one, or one of another format version or alphabet.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise _not_a_store(folder) from e
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise DataError(f"{path} is damaged: {e}", hint="build the store again, with --force") from e
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _not_a_store(folder)
    if document.get("version") not in (VERSION, VERSION_WITH_LABELS):
        raise DataError(
            f"{folder} has format version {document.get('version')}; this program reads up to "
            f"{VERSION_WITH_LABELS}",
            hint="build the store again",
        )
    if document.get("alphabet_hash") != ALPHABET_HASH:
        raise DataError(f"{folder} was built with another alphabet", hint="build the store again")
    return _parse_manifest(document, path)


def _parse_manifest(document: dict[str, Any], path: Path) -> Manifest:
    try:
        splits = {name: _parse_split(document["splits"][name]) for name in SPLITS}
        inputs = tuple(InputFile(**entry) for entry in document["inputs"])
        notes = tuple(document["notes"])
        labels = tuple(parse_label_field(entry) for entry in document.get("labels", ()))
        return Manifest(**{**document, "splits": splits, "inputs": inputs, "notes": notes, "labels": labels})
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise DataError(f"{path} is damaged: {e}", hint="build the store again, with --force") from e


def _parse_split(entry: dict[str, Any]) -> SplitManifest:
    shards = tuple(_parse_shard(shard) for shard in entry["shards"])
    tuples = {key: tuple(entry.get(key, ())) for key in ("composition", "length_histogram")}
    return SplitManifest(**{**entry, **tuples, "shards": shards})


def _parse_shard(entry: dict[str, Any]) -> Shard:
    """Raises: ValueError for a file that would not lie in the split's own folder, or would be another one's."""
    shard = Shard(**entry)
    if not (isinstance(shard.file, str) and _SHARD_FILE.fullmatch(shard.file)):
        raise ValueError(f"{shard.file!r} is not the name of a file of tokens")
    return shard


def _not_a_store(folder: Path) -> MissingDataError:
    if folder.is_file():  # the FASTA itself, most likely
        store = folder.with_name(f"{folder.name.split('.')[0]}.store")
        command = shlex.join(["sedd", "data", "build", str(folder), "-o", str(store)])
        hint = f"if it is FASTA, make a store of it: {command}"
        return MissingDataError(f"{folder} is a file, not a token store", hint=hint)
    what = "is not a token store" if folder.exists() else "does not exist"
    if near := store_near(folder):
        return MissingDataError(f"{folder} {what}", hint=f"did you mean {shlex.quote(str(near))}?")
    hint = f"make it with: sedd data build proteins.fasta -o {shlex.quote(str(folder))}"
    return MissingDataError(f"{folder} {what}", hint=hint)


def store_near(missing: Path) -> Path | None:
    """The token store of nearly this name in the folder of one that is not there; of other numbers it is another."""
    if missing.exists():
        return None
    beside = {path.parent.stem: path.parent for path in sorted(missing.parent.glob(f"*/{MANIFEST}"))}
    alike = [stem for stem in beside if re.findall(r"\d+", stem) == re.findall(r"\d+", missing.stem)]
    near = difflib.get_close_matches(missing.stem, alike, n=1, cutoff=0.7)
    return beside[near[0]] if near else None


def unigram_nats(train: tuple[int, ...], validation: tuple[int, ...]) -> float:
    """Nats per residue of `validation` under the letter frequencies of `train`, each counted once more.

    What any model of proteins must beat: it knows how often a residue occurs, and nothing of its place.
    """
    seen = [count for count in zip(train, validation, strict=True) if sum(count)]
    total_train = sum(t + 1 for t, _ in seen)
    total_validation = sum(v for _, v in seen)
    if not total_validation:
        raise DataError(
            "the validation split is empty", hint="build the store with a larger --validation-fraction"
        )
    return sum(-v * math.log((t + 1) / total_train) for t, v in seen) / total_validation
