"""What a job's process does, by the spec's `task:`. Each imports what it works with when it is its turn."""

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sedd.job.final_events import record_event
from sedd.job.node_preflight import require_fit_node
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.exits import Exit
from sedd.rundir.heartbeat_writer import HeartbeatWriter, write_heartbeats
from sedd.rundir.layout import RunDir
from sedd.spec.build import BuildOptions, DataTask
from sedd.spec.inference import EvaluateOptions, EvaluateTask, SampleOptions, SampleTask
from sedd.spec.load import load_resolved_as

if TYPE_CHECKING:
    from sedd.training.stop import StopFlag

Work = Callable[[RunDir, int, "StopFlag"], Exit]
"""A run folder and the number of the attempt; returns early, what it has saved, when the flag is set."""


def train(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Train as the rank that the environment names."""
    from sedd.training.distributed import Ranks
    from sedd.training.loop import Outcome
    from sedd.training.loop import train as train_run

    ranks = Ranks.from_environment(os.environ)
    require_fit_node(run, attempt, ranks_size=ranks.size, rank=ranks.rank, local_rank=ranks.local_rank)
    site = read_manifest_profile(run)
    outcome = train_run(run, attempt=attempt, ranks=ranks, stop=stop, wandb=site.wandb, stage=site.stage)
    return Exit.COMPLETED if outcome is Outcome.COMPLETED else Exit.STOPPED


def build_store(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Build a token store. An attempt that is stopped leaves nothing; the next one starts afresh, in minutes."""
    from sedd.data.build import build_store as build

    require_fit_node(run, attempt, ranks_size=1, rank=0, local_rank=0)
    wanted = load_resolved_as(DataTask, run.spec).build
    options = BuildOptions.model_validate(wanted.model_dump(include=set(BuildOptions.model_fields)))
    total = sum(path.stat().st_size for path in wanted.inputs if path.exists())
    with write_heartbeats(run.heartbeat, attempt=attempt, steps=total, unit="bytes") as beat:
        tell = _Progress(beat, total, stop, phase="building")
        try:
            result = build(list(wanted.inputs), wanted.store, options, owner=run.id, progress=tell.more)
        except _StoppedError:
            beat.update(phase="stopping")
            return Exit.STOPPED
        beat.update(phase="done", step=total)
    print(f"{wanted.store}: {'is there already' if result.reused else 'built'}", flush=True)
    for note in result.manifest.notes:
        print(f"warning: {note}", flush=True)
    record_event(run, "checkpoint", attempt=attempt, step=total, reason="last")
    return Exit.COMPLETED


def evaluate(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """The likelihood bound of proteins, into evaluation.json and a table. An attempt that is stopped starts afresh."""
    from sedd.data.records import read_records
    from sedd.inference.evaluation import evaluate as evaluate_records
    from sedd.inference.evaluation import summary
    from sedd.inference.load_network import find_trained, load_trained
    from sedd.inference.per_sequence import require_writer, write_table
    from sedd.rundir.atomic import write_text

    require_fit_node(run, attempt, ranks_size=1, rank=0, local_rank=0)
    wanted = load_resolved_as(EvaluateTask, run.spec).evaluate
    how = EvaluateOptions.model_validate(wanted.model_dump(include=set(EvaluateOptions.model_fields)))
    table = run.path / f"per_sequence.{wanted.per_sequence}" if wanted.per_sequence else None
    if table is not None:
        require_writer(table)
    records = [record for path in wanted.fasta for record in read_records(path, allow_empty=True)]
    with write_heartbeats(run.heartbeat, attempt=attempt, steps=len(records), unit="proteins") as beat:
        tell = _Progress(beat, len(records), stop, phase="evaluating")
        try:
            trained = load_trained(find_trained(str(wanted.network), run.path.parents[1], notify=_print_line))
            result = evaluate_records(trained, records, how=how, progress=tell.until)
        except _StoppedError:
            beat.update(phase="stopping")
            return Exit.STOPPED
        if table is not None:
            write_table(table, result)
        for remark in result.remarks(longest=trained.experiment.data.max_length):
            print(f"note: {remark}", flush=True)
        document = summary(trained, how, result)
        write_text(run.evaluation, json.dumps(document, indent=1) + "\n")
        beat.update(phase="done", step=len(records))
    print(f"at most {document['nats_per_residue']:.4f} nats a residue: {run.evaluation}", flush=True)
    record_event(run, "checkpoint", attempt=attempt, step=len(records), reason="last")
    return Exit.COMPLETED


def sample(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """New proteins, into samples/samples.fasta and a report. An attempt that is stopped starts afresh."""
    from sedd.inference.generation import draw_samples, fasta_text, read_frames
    from sedd.inference.load_network import find_trained, load_trained
    from sedd.inference.sample_report import assess_samples, open_training_data, write_report
    from sedd.rundir.atomic import write_text

    require_fit_node(run, attempt, ranks_size=1, rank=0, local_rank=0)
    wanted = load_resolved_as(SampleTask, run.spec).sample
    how = SampleOptions.model_validate(wanted.model_dump(include=set(SampleOptions.model_fields)))
    frames = read_frames(wanted.infill) if wanted.infill is not None else []
    with write_heartbeats(run.heartbeat, attempt=attempt, steps=wanted.steps, unit="sampling steps") as beat:
        tell = _Progress(beat, wanted.steps, stop, phase="sampling")
        try:
            trained = load_trained(find_trained(str(wanted.network), run.path.parents[1], notify=_print_line))
            samples = draw_samples(trained, how, frames, tell.until)
        except _StoppedError:
            beat.update(phase="stopping")
            return Exit.STOPPED
        run.samples.mkdir(exist_ok=True)
        write_text(run.samples / "samples.fasta", fasta_text(trained, how, samples))
        if wanted.report:
            found = assess_samples(trained, samples, open_training_data(trained))
            write_report(run.samples / "report.html", trained, how, found)
        beat.update(phase="done")
    print(f"{len(samples)} proteins: {run.samples}", flush=True)
    record_event(run, "checkpoint", attempt=attempt, step=wanted.steps, reason="last")
    return Exit.COMPLETED


def _print_line(text: str) -> None:
    print(text, flush=True)


class _StoppedError(Exception):
    """The flag was set."""


class _Progress:
    """Tells the heartbeat how much has been done, and asks the flag."""

    def __init__(self, beat: HeartbeatWriter, total: int, stop: "StopFlag", *, phase: str) -> None:
        self._beat, self._total, self._stop, self._phase = beat, total, stop, phase
        self._done, self._began = 0, time.monotonic()

    def more(self, count: int) -> None:
        """So much more has been done."""
        self.until(self._done + count)

    def until(self, done: int, total: int | None = None) -> None:
        """So much has been done in all, of `total` if that is known only now."""
        if self._stop:
            raise _StoppedError
        self._done, self._total = done, total or self._total
        rate = done / max(time.monotonic() - self._began, 1e-3)
        left_s = max(0.0, self._total - done) / max(rate, 1e-9)
        self._beat.update(phase=self._phase, step=done, steps=self._total, eta_s=left_s)


WORK: dict[str, Work] = {"train": train, "data": build_store, "evaluate": evaluate, "sample": sample}
