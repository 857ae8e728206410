"""What evaluation and sampling start from: a network that is there and can do what is asked, and readable files."""

from dataclasses import dataclass
from pathlib import Path

from sedd.errors import SeddError, UsageError
from sedd.finetune.adapters_folder import BASE, is_adapters
from sedd.finetune.base_network import find_base
from sedd.finetune.network_facts import read_network_facts, read_spec_of
from sedd.finetune.parent import CONFIG, WEIGHTS, refuse_incomplete, same_name_hint
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.filesystem import unreadable
from sedd.rundir.best import UndecidedError, find_trained_run
from sedd.rundir.find import refuse_spec
from sedd.rundir.layout import list_checkpoints
from sedd.spec.inference import SampleTask, ScoreOptions, ScoreTask, TrainedTask, options_of
from sedd.spec.option_keys import as_keys

_QUICKLY_READ_BYTES = 4 << 20
"""Of tables of mutants and their wild types: a second or two."""
_NOTHING = "{} is not a run, checkpoint or exported folder"
_NAMES = "{}: names one of these; paths are taken from the spec's own folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    network: Path
    kind: str | None
    """checkpoint, export, adapters or run; None where there is nothing of the kind."""
    checkpoints: int = 0
    """Of a run: sealed ones."""
    meant: str | None = None
    """How to write the run that may be meant, where there is nothing of the kind."""
    problem: str | None = None
    """Why a FASTA file cannot be read."""
    network_problem: UsageError | None = None
    """Why what is named is no network, or not one: a spec, a plan, a sweep whose best run is not known."""
    choice: str | None = None
    """Of a sweep: which of its runs is taken, and why."""
    drawing_problem: SeddError | None = None
    """Why samples cannot be drawn as asked: templates or parents that are none, a graph without masks."""
    scoring_problem: SeddError | None = None
    """Why mutants cannot be scored as asked: a table that does not fit its wild types, or has no such column."""
    base_problem: str | None = None
    """Of adapters: why the network that they were trained on is not found."""
    condition_problem: str | None = None
    """Why the network cannot be asked under the condition."""
    condition_hint: str | None = None
    condition_remark: str | None = None
    """What a user should know of a condition under which it can be asked."""


def gather(context: CheckContext) -> Facts:
    task = context.experiment
    assert isinstance(task, TrainedTask)
    kind, checkpoints, told = _kind(task.network)
    other = _tell_of(getattr(getattr(task, task.task), "against", None))
    can_ask = kind in ("export", "adapters") or checkpoints
    unknown, remark = _judge_condition(task) if can_ask else (None, None)
    return Facts(
        network=task.network,
        kind=kind,
        checkpoints=checkpoints,
        meant=same_name_hint(task.network, context.folder, "network") if kind is None else None,
        problem=unreadable(task.inputs),
        network_problem=next((one for one in (told, other) if isinstance(one, UsageError)), None),
        choice="; ".join(one for one in (told, other) if isinstance(one, str)) or None,
        drawing_problem=_drawing_problem(task, can_ask=bool(can_ask))
        if isinstance(task, SampleTask)
        else None,
        scoring_problem=_scoring_problem(task)
        if isinstance(task, ScoreTask) and context.side is Side.LOGIN
        else None,
        base_problem=_missing_base(task.network) if kind == "adapters" else None,
        condition_problem=unknown.message if unknown else None,
        condition_hint=unknown.hint if unknown else None,
        condition_remark=remark,
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(facts.problem, "paths are taken from the spec's own folder")
    if (undrawable := facts.drawing_problem) is not None:
        return fail(undrawable.message, undrawable.hint or "")
    if (unscorable := facts.scoring_problem) is not None:
        return fail(unscorable.message, as_keys(unscorable.hint, "score") or "")
    if (wrong := facts.network_problem) is not None:
        is_early = isinstance(wrong, UndecidedError) and wrong.is_early
        return (warn if is_early else fail)(wrong.message, wrong.hint or "")
    if facts.kind is None:
        return fail(_NOTHING.format(facts.network), facts.meant or _NAMES.format("network"))
    if facts.kind == "run" and not facts.checkpoints:
        return warn(f"{facts.network} has no checkpoint yet", "submit when its training has saved one")
    if facts.base_problem:
        return fail(facts.base_problem, f"link its checkpoint or export as {facts.network / BASE}")
    if facts.condition_problem:
        return fail(
            facts.condition_problem, facts.condition_hint or "the spec's `condition` names what it was told"
        )
    if facts.condition_remark:
        return warn(facts.condition_remark, "the spec's `condition` names what it is told")
    return ok(facts.choice or f"{facts.network}: {facts.kind}")


def _kind(path: Path) -> tuple[str | None, int, str | UsageError | None]:
    """What lies there, how many checkpoints it has, and which run of a sweep is taken, or what is wrong."""
    if path.is_file():
        return _kind_of_file(path)
    if all((path / name).is_file() for name in (CONFIG, WEIGHTS)):
        return "export", 0, None
    if is_adapters(path):
        return "adapters", 0, None
    if not path.is_dir():
        return None, 0, None
    told: list[str] = []
    try:
        refuse_incomplete(path)
        run = find_trained_run(str(path), path, notify=told.append)
    except UsageError as e:
        return None, 0, e
    return "run", len(list_checkpoints(run.checkpoints)), told[0] if told else None


def _tell_of(against: Path | None) -> str | UsageError | None:
    """Of the network that another is compared with: which run of a sweep is taken, or what is wrong."""
    if against is None:
        return None
    kind, _, told = _kind(against)
    return told if kind or told else UsageError(_NOTHING.format(against), hint=_NAMES.format("against"))


def _kind_of_file(path: Path) -> tuple[str | None, int, UsageError | None]:
    try:
        refuse_spec(path)
    except UsageError as e:
        return None, 0, e
    return "checkpoint", 1, None


def _missing_base(adapters: Path) -> str | None:
    try:
        find_base(adapters)
    except SeddError as e:
        return e.message
    return None


def _judge_condition(task: TrainedTask) -> tuple[UsageError | None, str | None]:
    """What is wrong with the condition under which the network is asked, and what should be known of it.

    Raises:
        CheckpointError: the network cannot be read.
    """
    condition = getattr(task, task.task).condition
    if not condition or (facts := read_network_facts(task.network)) is None:
        return None, None
    from sedd.conditions.known import (
        beyond_training,
        condition_row,
        parse_known,
    )  # numpy: a tenth of a second

    fields = parse_known(facts.get("conditions") or (), str(task.network))
    try:
        condition_row(fields, condition)
    except UsageError as e:
        return e, None
    return None, "; ".join(beyond_training(fields, condition)) or None


def _drawing_problem(task: SampleTask, *, can_ask: bool) -> SeddError | None:
    """Why what is asked for cannot be drawn, whatever the network computes. `can_ask`: its files are there."""
    from sedd.design.given import read_given  # numpy: a tenth of a second

    wanted = task.sample
    try:
        read_given(wanted)
    except SeddError as e:
        return e
    asked = {"sample.remask": wanted.remask > 0, "sample.order": wanted.order != "random"}
    names = [name for name, is_asked in asked.items() if is_asked]
    if not names or not can_ask or _graph_of(task.network) in (None, "absorbing"):
        return None
    return UsageError(
        f"{' and '.join(names)} {'needs' if len(names) == 1 else 'need'} the absorbing graph, which hides residues",
        hint=f"{task.network} is of the uniform one: leave {'it' if len(names) == 1 else 'them'} out",
    )


def _scoring_problem(task: ScoreTask) -> SeddError | None:
    """Why the job would refuse its mutants; nothing of tables that take long to read."""
    wanted, named = task.score, (*task.score.wild_types, *filter(None, (task.score.mutants,)))
    if unreadable(named) or sum(path.stat().st_size for path in named) > _QUICKLY_READ_BYTES:
        return None
    from sedd.inference.correlation import measured_numbers  # numpy: a tenth of a second
    from sedd.inference.variant_table import read_table
    from sedd.inference.variants import require_substitutions

    try:
        table = read_table(wanted)
        require_substitutions(table.variants, options_of(ScoreOptions, wanted))
        if wanted.measured is not None:
            measured_numbers(table, wanted.measured)
    except SeddError as e:
        return e
    return None


def _graph_of(network: Path) -> str | None:
    graph: str | None = ((read_spec_of(network) or {}).get("diffusion") or {}).get("graph")
    return graph


CHECK = Check(
    tasks=(TrainedTask,),
    reads=((),),  # all that the spec names
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    catches="a network or FASTA file that is not there, a run without a checkpoint, a condition that the network "
    "does not know, templates and parents that are none, mutants that do not fit their wild types (evaluate, sample, "
    "score, embed)",
    takes="< 0.1 s",
    passing=Facts(network=Path("/runs/small"), kind="run", checkpoints=3),
    failing=Facts(network=Path("/runs/smal"), kind=None),
)
