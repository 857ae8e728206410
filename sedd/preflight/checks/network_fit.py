"""Whether a network can do what is asked of it: lengths and layers that it has, and files that hold proteins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.conditions.guide_names import missing_guide
from sedd.errors import SeddError, UsageError
from sedd.finetune.network_facts import read_spec_of
from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, warn
from sedd.preflight.read.filesystem import unreadable
from sedd.spec.inference import EmbedOptions, EmbedTask, EvaluateTask, SampleTask, options_of
from sedd.units import counted

_READ_LETTERS = 4 << 20
"""Of each FASTA file, from its beginning: a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str
    """What of it was looked at."""
    problem: SeddError | None = None
    missing_guide: str | None = None
    """Why a guide of samples is not found here."""
    is_same_python: bool = True
    """Whether the node's Python is known to be this one."""


def gather(context: CheckContext) -> Facts | None:
    task = context.experiment
    assert isinstance(task, EvaluateTask | SampleTask | EmbedTask)
    try:
        spec = read_spec_of(task.network)
    except SeddError:
        spec = None  # the check trained_network says what is wrong with it
    try:
        asked = _look(task, spec)
    except SeddError as e:
        return Facts(asked="", problem=e)
    guide = task.sample.guide if isinstance(task, SampleTask) else None
    missing = missing_guide(guide) if guide else None
    if not (asked or missing):
        return None
    return Facts(asked=asked, missing_guide=missing, is_same_python=_is_same_python(context))


def _is_same_python(context: CheckContext) -> bool:
    site = context.site
    return site is None or not (site.setup or site.python or site.container)


def judge(facts: Facts) -> Verdict:
    if facts.problem is not None:
        return fail(facts.problem.message, facts.problem.hint or "")
    if facts.missing_guide:
        told = fail if facts.is_same_python else warn
        return told(
            facts.missing_guide, "PYTHONPATH=FOLDER where the module is a file, or install its package"
        )
    return ok(facts.asked)


def _look(task: EvaluateTask | SampleTask | EmbedTask, spec: dict[str, Any] | None) -> str:
    """What fits, in words. Raises: SeddError: what does not."""
    if isinstance(task, SampleTask):
        return _require_length(task, spec["data"]["max_length"]) if spec else ""
    if isinstance(task, EmbedTask) and spec:
        options_of(EmbedOptions, task.embed).layer_numbers(spec["model"]["blocks"])
    return _require_proteins(task.inputs) if not unreadable(task.inputs) else ""


def _require_length(task: SampleTask, longest: int) -> str:
    from sedd.design.given import Given, read_given, require_length  # numpy: a tenth of a second

    wanted = task.sample
    try:
        given = read_given(wanted)
    except SeddError:
        given = Given()  # the check trained_network says what is wrong with them
    asked = require_length(wanted, given, longest)
    return f"{asked} of at most {longest} residues" if asked else ""


def _require_proteins(files: Sequence[Path]) -> str:
    """Read the beginning of each file as the job will."""
    from sedd.data.records import read_records, residues_of

    proteins = letters = 0
    for path in files:
        read = 0
        for record in read_records(path, allow_empty=True):
            proteins += bool(len(residues_of(record)))
            read += len(record.text)
            if read > _READ_LETTERS:
                break
        letters += read
    if not proteins and letters <= _READ_LETTERS:
        raise UsageError(f"{', '.join(map(str, files))}: no record holds a residue")
    return f"{counted(proteins, 'protein')} read"


CHECK = Check(
    tasks=(EvaluateTask, SampleTask, EmbedTask),
    sides=(Side.LOGIN,),
    catches="proteins longer than the network was trained on (sample), a layer that it does not have (embed), files "
    "of nucleotides or of other letters (evaluate, embed; the first 4 million letters of each are read), a guide that "
    "is not installed",
    takes="0.3 s",
    passing=Facts(asked="100 of at most 512 residues"),
    failing=Facts(
        asked="",
        problem=UsageError(
            "up to 900 residues are asked for, and the network was trained on at most 512",
            hint="for longer proteins, train with a larger data.max_length",
        ),
    ),
)
