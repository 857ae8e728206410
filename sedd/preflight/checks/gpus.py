"""The cards of this node through the driver: as many as asked for, idle, healthy."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, combine, fail, warn
from sedd.preflight.read.cards import (
    Card,
    Driver,
    answers_for_cards,
    is_bound,
    own_cards,
    query_driver,
    visible,
)
from sedd.rundir.find import list_runs_of_name
from sedd.rundir.layout import read_manifest
from sedd.rundir.process_name import is_of_same_attempt
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask
from sedd.units import counted, format_bytes

# The driver and our own contexts take some hundred MiB.
_IDLE_BYTES = 1 << 30
_WAIT_S = 10.0
"""For a job that has just ended on these cards to give their memory back."""
_REPORT = "report the node to the site"
_WORN_PAGES = 60  # NVIDIA replaces a card with more retired pages than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: int
    has_driver: bool
    cards: tuple[Card, ...]
    """Those that the run gets; of a sweep on this machine, those of the runs that may go on at the same time."""
    seen: int | None = None
    """How many this process sees; None: these."""
    at_once: int = 1
    """Runs of a sweep on this machine that may go on at the same time, each with cards of its own."""
    each: int = 0
    """Cards that are set aside for each of them."""


def gather(context: CheckContext) -> Facts | None:
    asked = context.experiment.resources.gpus_per_node
    if asked == 0 or not context.runs_here:
        return None
    driver = query_driver()
    if not answers_for_cards(driver, context):
        return None
    driver = _await_idle(driver, context)
    seen = visible(driver, context.environ) if driver else ()
    return Facts(
        asked=1 if is_bound(seen, context) else asked,
        has_driver=driver is not None,
        cards=_others_use(driver, context) if driver else (),
        seen=len(seen),
        at_once=context.runs_at_once,
        each=context.cards_of_each,
    )


def _await_idle(driver: Driver | None, context: CheckContext) -> Driver | None:
    """What the driver says; on a node once nobody else uses our cards, or at the end of our patience."""
    deadline = time.monotonic() + (_WAIT_S if context.side is Side.NODE else 0.0)
    while driver and any(map(_is_busy, _others_use(driver, context))) and time.monotonic() < deadline:
        time.sleep(0.5)
        driver = query_driver()
    return driver


def _others_use(driver: Driver, context: CheckContext) -> tuple[Card, ...]:
    """The cards that the run gets, without what the processes of its own attempt take of them.

    The ranks of a node look at their cards side by side, and each has a part of its card in use while it does. A rank
    of an earlier attempt that SIGKILL could not end keeps its memory: it counts like anybody else's process.

    On the login side the processes of a run that is being changed do not count, as it ends before it continues; nor do
    those of other points of its sweep, whose turn it waits for.
    """
    cards, fellows = [], _fellows(context)
    for card in own_cards(driver, context):
        ours = [
            use
            for use in card.processes
            if is_of_same_attempt(use[0], context.environ) or _works_for(use[0], fellows)
        ]
        others = tuple(use for use in card.processes if use not in ours)
        used = card.used_bytes - sum(memory or 0 for _, memory in ours) if others or not ours else 0
        cards.append(replace(card, processes=others, used_bytes=used))
    return tuple(cards)


def _fellows(context: CheckContext) -> frozenset[str]:
    """The folders of the run that is changed, and of the runs that share cards with it."""
    run = context.changed
    if run is None:
        return frozenset()
    sweep = read_manifest(run).get("sweep")
    points = list_runs_of_name(run.path.parent) if sweep else [run]
    return frozenset(str(p.path) for p in points if p == run or read_manifest(p).get("sweep") == sweep)


def _works_for(pid: int, folders: frozenset[str]) -> bool:
    """Whether a process is a training of one of these run folders: its command line names it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return not folders.isdisjoint(words)


def judge(facts: Facts) -> Verdict:
    if not facts.has_driver:
        return fail(
            f"no NVIDIA driver answers here; the job asks for {counted(facts.asked, 'GPU')}",
            "resources.gpus_per_node: 0 runs on the CPU; or use --cluster with a profile that has GPUs",
        )
    if len(facts.cards) < facts.asked:
        return fail(
            f"{counted(len(facts.cards), 'GPU')} visible, {facts.asked} asked for",
            "see CUDA_VISIBLE_DEVICES and nvidia-smi -L; or ask for fewer, resources.gpus_per_node",
        )
    of_all = "" if facts.seen in (None, len(facts.cards)) else f" of {facts.seen}"
    names = ", ".join(sorted({card.name for card in facts.cards}))
    problems = [problem for card in facts.cards for problem in _problems(card)]
    if facts.at_once > 1 and len(facts.cards) < facts.at_once * facts.each:
        problems.append(_fewer_at_a_time(facts))
    return combine(
        problems, all_well=f"{len(facts.cards)}{of_all} × {names}: idle, no memory errors, clocks free"
    )


def _fewer_at_a_time(facts: Facts) -> Verdict:
    fits = max(1, len(facts.cards) // facts.each)
    return warn(
        f"{counted(len(facts.cards), 'GPU')} visible: {counted(fits, 'run')} at a time, not {facts.at_once}",
        f"sweep.parallel: {facts.at_once} takes {facts.at_once * facts.each} GPUs, {facts.each} for each run",
    )


def _problems(card: Card) -> list[Verdict]:
    found, name = [], f"GPU {card.index}"
    if _is_busy(card):
        pids = ", ".join(str(pid) for pid, _ in card.processes[:3])
        by = f" by process {pids}" if pids else ""
        busy = f"{name} is busy: {format_bytes(card.used_bytes)} in use{by}"
        found.append(fail(busy, "another node, or end that process"))
    if card.ecc_errors:
        found.append(fail(f"{name} had {card.ecc_errors} uncorrected memory errors", _REPORT))
    if card.is_retirement_pending:
        found.append(fail(f"{name} waits for a reset to put faulty memory aside", _REPORT))
    if card.retired_pages and card.retired_pages >= _WORN_PAGES:
        found.append(warn(f"{name} has {card.retired_pages} pages of faulty memory", _REPORT))
    if card.slowdowns:
        found.append(warn(f"{name} is slowed down: {', '.join(card.slowdowns)}", _REPORT))
    return found


def _is_busy(card: Card) -> bool:
    is_used = bool(card.processes) or card.used_bytes > card.memory_bytes // 4
    return card.used_bytes > _IDLE_BYTES and is_used


def _sheet(used_bytes: int, processes: tuple[tuple[int, int | None], ...]) -> Facts:
    card = Card(
        index=0,
        name="Tesla V100-SXM2-32GB",
        uuid="GPU-0",
        bus=(0, 0x3B, 0),
        capability=(7, 0),
        memory_bytes=32 << 30,
        used_bytes=used_bytes,
        processes=processes,
        ecc_errors=0,
        retired_pages=0,
        is_retirement_pending=False,
        slowdowns=(),
    )
    return Facts(asked=1, has_driver=True, cards=(card,))


CHECK = Check(
    tasks=(Experiment, TrainedTask),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.NODE,
    before_cuda=True,
    catches="cards missing, busy with somebody else's work, throttled, or with memory errors",
    takes="0.1 s a card",
    passing=_sheet(300 << 20, ()),
    failing=_sheet(20 << 30, ((4711, 19 << 30),)),
)
