"""Build a token store from FASTA files."""

import os
import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sedd.conditions.label_fields import label_notes
from sedd.conditions.label_table import LabelTable, TableFiles, table_use, write_label_table
from sedd.data.append import stored_part
from sedd.data.assemble import Selection, assemble, content_hash, join_labels
from sedd.data.atomic_folder import AppearedError, atomic_folder, restore_replaced
from sedd.data.clusters import ClusterTable, count_repeats, table_notes, table_problem, write_cluster_table
from sedd.data.encode import TALLY, Filters
from sedd.data.fasta import ends_open, require_readable
from sedd.data.first_look import require_fit_options
from sedd.data.manifest import (
    MANIFEST,
    VERSION,
    VERSION_WITH_LABELS,
    InputFile,
    Manifest,
    read_manifest,
    write_manifest,
)
from sedd.data.parts import Part, PartOptions, merged_tally, validation_limit
from sedd.data.progress import Progress, ignore_progress
from sedd.data.reuse import input_file, recorded_options, require_same, require_store
from sedd.data.sources import Built, Source, build_source, plan_sources
from sedd.data.store import TokenStore
from sedd.data.store_picture import PICTURE, render_picture
from sedd.data.workers import build_sources
from sedd.errors import DataError, writing
from sedd.spec.build import BuildOptions
from sedd.units import counted

_WORTH_PROCESSES_BYTES = 1 << 25
_MOST_WORKERS = 8  # some 60 MB each
_CLUSTERS, _LABELS = "clusters.npy", "labels"
_ROOM = "a store takes about as many bytes as its input has residues; nothing was left behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """`reused`: the store was there already, made of the same input with the same options."""

    path: Path
    manifest: Manifest
    reused: bool


def usable_cores() -> int:
    """Processes to build with: the cores that this process may use, as far as memory is bounded."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def build_store(
    inputs: list[Path],
    output: Path,
    options: BuildOptions | None = None,
    *,
    force: bool = False,
    workers: int | None = None,
    owner: str = "",
    progress: Progress = ignore_progress,
) -> BuildResult:
    """Build a token store, or find it already built; only `force` replaces one with other content.

    The content does not depend on the number of `workers`: processes, by default one for each usable core. `owner`
    builds one store at a time, perhaps on another machine than the last time: what that one left behind is removed.

    Raises:
        DataError: input that cannot be used, an output that is in the way.
        SeddError: the output cannot be written, as `cannot_write` words it.
    """
    options = options or BuildOptions()
    for store in filter(None, (output, options.onto)):
        with writing(store):
            if store.parent.is_dir():
                restore_replaced(store, owner=owner)
    for path in inputs:
        require_readable(path)
    require_fit_options(options)
    recorded, before = recorded_options(options), _before(options)
    with writing(output, hint=_ROOM):
        if output.exists():
            require_store(output)
            if not force:
                manifest = require_same(output, inputs, before, recorded, progress)
                return BuildResult(path=output, manifest=manifest, reused=True)
        try:
            with atomic_folder(output, owner=owner, replace=force) as folder:
                manifest = _build(inputs, folder, options, progress, workers or usable_cores())
        except AppearedError:
            if not _is_same_store(output, manifest):
                raise
            return BuildResult(path=output, manifest=read_manifest(output), reused=True)
    return BuildResult(path=output, manifest=manifest, reused=False)


def _is_same_store(output: Path, manifest: Manifest) -> bool:
    """Whether a store is as one that was built from the same input with the same options."""
    if not (output / MANIFEST).is_file():
        return False
    there = read_manifest(output)
    return (there.content_hash, there.options, there.inputs) == (
        manifest.content_hash,
        manifest.options,
        manifest.inputs,
    )


def _before(options: BuildOptions) -> tuple[InputFile, ...]:
    """The inputs of the store that this one begins with."""
    return () if options.onto is None else read_manifest(options.onto).inputs


def _build(
    inputs: list[Path], folder: Path, options: BuildOptions, progress: Progress, workers: int
) -> Manifest:
    recorded, before = recorded_options(options), _before(options)
    scratch = folder / "parts"
    scratch.mkdir()
    table = _label_table(scratch, options, progress)
    by_file = _build_sources(inputs, scratch, options, table, progress, workers)
    parts = [part for of_file in by_file for built in of_file for part in built.parts]
    _require_sequences(parts, inputs)
    notes = [
        *_input_notes(parts, inputs),
        *_cluster_notes(parts, scratch, inputs, options, recorded["clusters"]),
    ]
    if table is not None and options.labels is not None:
        notes += table_use(options.labels, *LabelTable(table).use())
    base = None if options.onto is None else stored_part(TokenStore.open(options.onto), scratch / "onto")
    tally = merged_tally([*([base] if base else []), *parts])
    selection = Selection(
        keep_duplicates=options.keep_duplicates, sample=options.sample, sample_seed=options.sample_seed
    )
    splits, kept = assemble(parts, folder, selection, tally, base=base, progress=progress)
    labels = join_labels(kept, folder, table.columns if table else (), progress)
    shutil.rmtree(scratch)
    if options.validation_fraction:
        notes += [f"the {name} split is empty" for name, split in splits.items() if not split.sequences]
    notes += label_notes(labels, sequences=splits["train"].sequences)
    manifest = Manifest(
        content_hash=content_hash(splits, labels),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        options=recorded,
        inputs=(
            *before,
            *(
                input_file(path, [built.fingerprint for built in b])
                for path, b in zip(inputs, by_file, strict=True)
            ),
        ),
        splits=splits,
        tally=tally.counts,
        notes=tuple(notes),
        labels=labels,
        version=VERSION_WITH_LABELS if labels else VERSION,
    )
    write_manifest(folder, manifest)
    (folder / PICTURE).write_text(render_picture(manifest), encoding="utf-8")
    return manifest


def _label_table(scratch: Path, options: BuildOptions, progress: Progress) -> TableFiles | None:
    """The table of labels, ready for look-ups; the values of the store that this one begins with come first."""
    if options.labels is None:
        return None
    onto = None if options.onto is None else read_manifest(options.onto).labels
    return write_label_table(
        options.labels, scratch / _LABELS, options.label_numbers, onto=onto, progress=progress
    )


def _build_sources(
    inputs: list[Path],
    scratch: Path,
    options: BuildOptions,
    labels: TableFiles | None,
    progress: Progress,
    workers: int,
) -> list[list[Built]]:
    """What was built of each input file."""
    clusters = None
    if options.clusters is not None:
        clusters = scratch / _CLUSTERS
        write_cluster_table(
            options.clusters, clusters, validation_limit(options.validation_fraction), progress
        )
    part_options = PartOptions(
        filters=Filters(options.min_length, options.max_length, options.max_unknown),
        validation_fraction=options.validation_fraction,
        clusters=clusters,
        labels=labels,
    )
    planned = [plan_sources(path, scratch, number) for number, path in enumerate(inputs)]
    sources = [source for of_file in planned for source in of_file]
    if options.limit is not None:
        built = _build_first(sources, part_options, progress, options.limit)
    elif workers == 1 or sum(path.stat().st_size for path in inputs) < _WORTH_PROCESSES_BYTES:
        built = [build_source(source, part_options, progress) for source in sources]
    else:
        built = build_sources(sources, part_options, progress, workers=workers)
    remaining = iter(built)
    return [[next(remaining) for _ in of_file] for of_file in planned]


def _build_first(sources: list[Source], options: PartOptions, progress: Progress, limit: int) -> list[Built]:
    built: list[Built] = []
    for source in sources:
        built.append(build_source(source, options, progress, at_most=limit))
        limit -= sum(split.sequences for part in built[-1].parts for split in part.splits.values())
    return built


def _require_sequences(parts: list[Part], inputs: list[Path]) -> None:
    tally = merged_tally(parts)
    named = ", ".join(str(path) for path in inputs)
    if not _sequences(parts):
        reasons = "; ".join(
            f"{n:,} {TALLY[key]}" for key, n in tally.counts.items() if n and key != "records"
        )
        raise DataError(f"{named}: none of the {tally.counts['records']:,} records is left: {reasons}")


def _sequences(parts: list[Part]) -> int:
    return sum(split.sequences for part in parts for split in part.splits.values())


def _input_notes(parts: list[Part], inputs: list[Path]) -> list[str]:
    notes = [
        f"{path.name} has no line end at its end: was it cut short? then its last protein is, too"
        for path in inputs
        if ends_open(path)
    ]
    tally = merged_tally(parts)
    if count := tally.counts["lines_of_words"]:
        example = tally.examples["lines_of_words"]
        notes.append(f"{counted(count, 'line')} of words read as residues, the first: {example}")
    return notes


def _cluster_notes(
    parts: list[Part], scratch: Path, inputs: list[Path], options: BuildOptions, table_hash: str | None
) -> list[str]:
    """How well the cluster table fits. Raises: DataError when it cannot keep relatives on one side."""
    if options.clusters is None:
        return []
    counts, kept = merged_tally(parts).counts, _sequences(parts)
    use = ClusterTable(scratch / _CLUSTERS).use()
    if use.repeated > use.members / 100:
        _refuse_swapped(options.clusters)
    if problem := table_problem(use, sequences=kept, unclustered=counts["unclustered"]):
        raise DataError(
            f"{options.clusters} {problem} ({', '.join(map(str, inputs))})",
            hint="it should hold the first words of their headers, or what MMseqs2 makes of them: "
            "W0FSK4 of >tr|W0FSK4|W0FSK4_9FLAV",
        )
    # With a limit most of the file is not looked up; of the store that this one begins with no names are known.
    is_part = options.limit is not None or options.onto is not None
    dropped = use.members if is_part else counts["records"] - kept
    notes = table_notes(use, sequences=kept, unclustered=counts["unclustered"], dropped=dropped)
    if options.onto is not None and read_manifest(options.onto).options["clusters"] != table_hash:
        notes.append(
            f"the clusters are not those of {options.onto}: where one has another representative now, its members "
            "may be on both sides of the split"
        )
    return notes


def _refuse_swapped(table: Path) -> None:
    """Raise DataError for a table whose first column is that of the members: each would be a cluster of its own."""
    first, second = count_repeats(table)
    if first < second / 10:
        raise DataError(
            f"{table}: its columns look swapped: names are repeated in the second column, as representatives are, "
            f"and {'hardly ever' if first else 'never'} in the first",
            hint=f"the representative comes first: awk -F'\\t' '{{print $2 FS $1}}' {shlex.quote(str(table))} > "
            f"{shlex.quote(str(table.with_name(f'{table.stem}_turned{table.suffix}')))}",
        )
