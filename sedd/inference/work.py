"""What `task: evaluate`, `sample`, `score` and `embed` do in a run's folder; `sedd.job.tasks` starts it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.data.files import file_checksum
from sedd.data.records import Record, read_records, require_own_names
from sedd.design.given import read_given
from sedd.errors import RunError, UsageError
from sedd.inference.comparison import report
from sedd.inference.correlation import measured_numbers
from sedd.inference.embed import PART_PROTEINS, embed
from sedd.inference.embedding_file import WITHOUT_PYARROW, Part, write_embeddings
from sedd.inference.evaluation import per_sequence, read_proteins
from sedd.inference.generation import draw_samples, fasta_text, redesign_columns
from sedd.inference.keep import Arrays, KeptParts
from sedd.inference.load_network import Trained, find_trained, load_trained
from sedd.inference.sample_report import assess_samples, open_training_data, write_report
from sedd.inference.score import Scores, join, parts, score_part, summary
from sedd.inference.score_page import write_score_page
from sedd.inference.tables import require_writer, write_table
from sedd.inference.user_command import proteins_of, read_column, render_found, run_program
from sedd.inference.variant_table import read_table
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir
from sedd.spec.command import CommandTask
from sedd.spec.inference import (
    EmbedOptions,
    EmbedTask,
    EvaluateOptions,
    EvaluateTask,
    SampleOptions,
    SampleTask,
    ScoreOptions,
    ScoreTask,
    options_of,
)
from sedd.spec.task import TaskSpec
from sedd.training.distributed import Ranks
from sedd.units import counted

ALONE = Ranks()


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a task of a trained network."""

    run: RunDir
    task: TaskSpec
    progress: Callable[[int, int], None]
    """Hears of (done, total); raises where the attempt has to stop."""
    notify: Callable[[str], None]
    attempt: int = 1
    ranks: Ranks = ALONE
    """This process among those that share the work; the first writes what comes of it."""
    ask: Callable[[], None] = lambda: None
    """Raises where the attempt has to stop."""
    begin: Callable[[], None] = lambda: None
    """Told before a part is computed, as `KeptParts.begin`."""

    def note(self, text: str) -> None:
        """Tell what a user should know of a result that is given all the same, once for all ranks."""
        if self.ranks.is_first:
            self.notify(f"note: {text}")

    def load(self, network: Path, place: int = 0) -> Trained:
        """The network that the spec names at a place, on this process's device, as all ranks take it.

        The first rank says which checkpoint is the newest, and how many residues go through the network at once; the
        latter for all attempts.
        """

        def find(number: int) -> Arrays:
            try:
                found = find_trained(str(network), self.run.path.parents[1], notify=self.notify)
            except UsageError as e:  # it may be there at the next attempt
                raise RunError(e.message, hint=e.hint) from e
            return {"path": np.array(str(found))}

        (found,) = self._notes()(f"network-{place}-attempt-{self.attempt}", 1, find)
        trained = load_trained(Path(str(found["path"])), self.ranks.device())
        batch = self._notes(trained)(
            "batch", 1, lambda number: {"residues": np.array(trained.batch_residues)}
        )
        return replace(trained, fixed_batch=int(next(iter(batch))["residues"]))

    def _notes(self, *networks: Trained) -> KeptParts:
        """What ranks agree on: parts, too, but none of the work."""
        return replace(self.parts(*networks), begin=lambda: None)

    def parts(self, *networks: Trained, read: Sequence[Path | None] = ()) -> KeptParts:
        """The parts of work with these networks on the files that were read.

        Those of a newer checkpoint are others, and those of a file or an export that was changed between two attempts.
        """
        named = " ".join(f"{network.run} {network.step}{network.version}" for network in networks)
        named += "".join(f" {file_checksum(path)}" for path in read if path is not None)
        prefix = hashlib.blake2b(named.encode(), digest_size=4).hexdigest()
        return KeptParts(
            run=self.run,
            prefix=prefix,
            rank=self.ranks.rank,
            size=self.ranks.size,
            ask=self.ask,
            begin=self.begin,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """A task's work, which returns a line about its result, and how a heartbeat calls it."""

    do: Callable[[Job], str]
    phase: str
    unit: str


def do_evaluate(job: Job) -> str:
    """The likelihood bound of proteins, into evaluation.json and a table. Batches that are finished are kept."""
    assert isinstance(job.task, EvaluateTask)
    wanted, how = job.task.evaluate, options_of(EvaluateOptions, job.task.evaluate)
    table = job.run.table("per_sequence", wanted.per_sequence) if wanted.per_sequence else None
    if table is not None:
        require_writer(table)
    records = [record for path in wanted.fasta for record in read_records(path, allow_empty=True)]
    trained = job.load(wanted.network).under(how.condition, notify=job.note)
    against = job.load(wanted.against, 1) if wanted.against is not None else None
    networks = [network for network in (trained, against) if network is not None]
    longest = min(network.longest for network in networks)
    proteins = read_proteins(records, longest=longest)
    keep = job.parts(*networks, read=wanted.fasta)
    found = report(trained, proteins, how, against=against, progress=job.progress, keep=keep)
    if not job.ranks.is_first:
        return ""
    job.progress(len(proteins.names), len(proteins.names))
    for remark in found.result.remarks(longest=longest):
        job.note(remark)
    if table is not None:
        write_table(table, per_sequence(found.result))
    _write_json(job.run.evaluation, found.document)
    return "\n".join([*found.lines(), str(job.run.evaluation)])


def do_sample(job: Job) -> str:
    """New proteins, into samples/samples.fasta, a table of redesigns, and a report. Finished batches are kept."""
    assert isinstance(job.task, SampleTask)
    run, wanted, how = job.run, job.task.sample, options_of(SampleOptions, job.task.sample)
    given = read_given(how)
    trained = job.load(wanted.network).under(how.condition, how.guiding, notify=job.note)
    keep = job.parts(trained, read=(how.infill, how.redesign.parent if how.redesign else None))
    samples = draw_samples(trained, how, given, job.progress, job.note, keep)
    if not job.ranks.is_first:
        return ""
    run.samples.mkdir(exist_ok=True)
    write_text(run.samples / "samples.fasta", fasta_text(trained, how, samples))
    if given.parents:
        write_table(run.samples / "redesigns.csv", redesign_columns(samples))
    if wanted.report:
        found = assess_samples(trained, samples, open_training_data(trained))
        write_report(run.samples / "report.html", trained, how, samples, found)
    return f"{counted(len(samples), 'protein')}: {run.samples}"


def do_score(job: Job) -> str:
    """Scores of mutants, into a table, scores.json and a page. A stopped attempt continues behind its last part."""
    assert isinstance(job.task, ScoreTask)
    run, wanted, how = job.run, job.task.score, options_of(ScoreOptions, job.task.score)
    output = run.table("scores", wanted.format)
    require_writer(output)
    table = read_table(wanted)
    if wanted.measured is not None:
        measured_numbers(table, wanted.measured)  # a missing column is told before hours of scoring
    trained = job.load(wanted.network).under(how.condition, notify=job.note)
    denoiser, slices = trained.denoiser(), parts(table)

    def compute(number: int) -> Arrays:
        def tell(done: int = 0, of: int = 0) -> None:
            job.progress(slices[number].start, len(table.variants))

        tell()
        some = table.variants[slices[number]]
        return score_part(denoiser, some, how, longest=trained.longest, progress=tell)

    keep = job.parts(trained, read=(*wanted.wild_types, wanted.mutants))
    found = list(keep("scores", len(slices), compute))
    if not job.ranks.is_first:
        return ""
    job.progress(len(table.variants), len(table.variants))
    scores = join(table, found, longest=trained.longest)
    for remark in scores.remarks():
        job.note(remark)
    write_scores(output, trained, how, scores, measured=wanted.measured)
    _write_json(run.path / "scores.json", summary(trained, how, scores, wanted.measured))
    if wanted.page:
        write_score_page(run.path / "scores.html", trained, how, scores, measured=wanted.measured)
    return f"{counted(len(table.variants), 'mutant')}: {output}"


def do_embed(job: Job) -> str:
    """Hidden states of proteins, into one file. A stopped attempt continues behind its last part."""
    assert isinstance(job.task, EmbedTask)
    run, wanted, how = job.run, job.task.embed, options_of(EmbedOptions, job.task.embed)
    output = run.table("embeddings", wanted.format)
    require_writer(output, instead=WITHOUT_PYARROW)
    trained = job.load(wanted.network).under(how.condition, notify=job.note)
    how.layer_numbers(trained.experiment.model.blocks)  # before the proteins are read
    records = [record for path in wanted.fasta for record in read_records(path, allow_empty=True)]
    proteins = read_residues(records, longest=trained.longest, notify=job.note)
    total = len(proteins)
    starts = range(0, total, PART_PROTEINS)

    def some(number: int) -> Sequence[tuple[str, NDArray[np.uint8]]]:
        return proteins[starts[number] : starts[number] + PART_PROTEINS]

    def compute(number: int) -> Arrays:
        def tell(done: int, of: int) -> None:
            job.progress(starts[number] + done, total)

        tell(0, total)
        return {**embed(trained, [tokens for _, tokens in some(number)], how, progress=tell)}

    kept = job.parts(trained, read=wanted.fasta)("embeddings", len(starts), compute)
    if not job.ranks.is_first:
        return ""
    job.progress(total, total)
    write_embeddings(output, map(part_of, map(some, range(len(starts))), kept), pooled=how.pooling == "mean")
    return f"{counted(total, 'protein')}: {output}"


def part_of(proteins: Sequence[tuple[str, NDArray[np.uint8]]], arrays: Arrays) -> Part:
    """Names, residues and hidden states of some proteins."""
    return [name for name, _ in proteins], [tokens for _, tokens in proteins], dict(arrays)


def do_command(job: Job) -> str:
    """A program of the user's on proteins; its table, what it says, and a page. A stopped attempt starts afresh."""
    assert isinstance(job.task, CommandTask)
    run, wanted = job.run, job.task.command
    fasta, out = proteins_of(wanted), run.table("command", "csv")
    proteins = list(read_records(fasta))
    require_own_names(proteins)  # by which the rows of the table are found
    ask = partial(job.progress, 0, len(proteins))
    ask()
    run_program(wanted.run, fasta=fasta, out=out, folder=run.path, ask=ask)
    found = read_column(out, wanted, proteins)
    _write_json(run.path / "command.json", found.document())
    write_text(run.path / "command.html", render_found(found, proteins))
    job.progress(len(proteins), len(proteins))
    return f"{wanted.column} of {len(found.values)} of {counted(len(proteins), 'protein')}: {out}"


def read_residues(
    records: Sequence[Record], *, longest: int, notify: Callable[[str], None]
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Name and residues of every protein, as a network takes them. Raises: DataError."""
    proteins = read_proteins(records, longest=longest)
    for remark in proteins.remarks(longest=longest):
        notify(remark)
    return [
        (name, proteins.distinct[which]) for name, which in zip(proteins.names, proteins.which, strict=True)
    ]


def write_scores(
    path: Path, trained: Trained, how: ScoreOptions, scores: Scores, *, measured: str | None
) -> None:
    """The table of scores; a measured column that is not there is named before anything is written."""
    summary(trained, how, scores, measured)
    write_table(path, scores.columns())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_text(path, json.dumps(document, indent=1) + "\n")


WORK: dict[str, Work] = {
    "evaluate": Work(do_evaluate, "evaluating", "proteins"),
    "sample": Work(do_sample, "sampling", "sampling steps"),
    "score": Work(do_score, "scoring", "mutants"),
    "embed": Work(do_embed, "embedding", "proteins"),
    "command": Work(do_command, "running", "proteins"),
}
"""By the spec's `task:`."""
