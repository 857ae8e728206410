"""Errors of the cards that the driver wrote into the kernel's log."""

from dataclasses import dataclass

from sedd.errors import ClusterError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, unknown, warn
from sedd.preflight.read.cards import answers_for_cards, own_cards, query_driver
from sedd.preflight.read.kernel_log import Xid, query_xids, uptime_s
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask
from sedd.units import format_duration

# The card's or the board's own (NVIDIA's list of Xid errors); others, 13, 31, 43, 45, are a program's that has ended.
_OF_THE_CARD = {48, 61, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 136, 140, 143}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    refusal: str | None
    """Why the log cannot be read."""
    xids: tuple[Xid, ...]
    """Of this job's cards."""
    cards: int
    now_s: float


def gather(context: CheckContext) -> Facts | None:
    if context.experiment.resources.gpus_per_node == 0 or not context.runs_here:
        return None
    driver = query_driver()
    if driver is None or not answers_for_cards(driver, context):  # without one, the check `gpus` says so
        return None
    buses = {card.bus for card in own_cards(driver, context)}
    try:
        xids = query_xids()
    except ClusterError as e:
        return Facts(refusal=e.message, xids=(), cards=len(buses), now_s=0.0)
    own = tuple(xid for xid in xids if xid.bus in buses or None in buses)
    return Facts(refusal=None, xids=own, cards=len(buses), now_s=uptime_s())


def judge(facts: Facts) -> Verdict:
    if facts.refusal is not None:
        return unknown(facts.refusal, "nothing to do: the site keeps it to administrators")
    grave = [xid for xid in facts.xids if xid.code in _OF_THE_CARD]
    if not grave:
        return ok(f"the driver reported no fault of the {facts.cards} GPUs since the machine started")
    last = grave[-1]
    age = format_duration(max(0.0, facts.now_s - last.at_s))
    more = f", and {len(grave) - 1} more" if len(grave) > 1 else ""
    address = "{:04x}:{:02x}:{:02x}".format(*last.bus)
    return warn(
        f"Xid {last.code} of the GPU at {address}, {age} ago: {last.words}{more}",
        "if training fails here, report the node to the site and exclude it: exclude: in the profile",
    )


_FELL = Xid(bus=(0, 0x3B, 0), code=79, at_s=90_000.0, words="GPU has fallen off the bus")

CHECK = Check(
    tasks=(Experiment, TrainedTask),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="cards of which the driver has reported a fault (Xid), where the kernel's log may be read",
    takes="0.1 s",
    passing=Facts(refusal=None, xids=(), cards=4, now_s=100_000.0),
    failing=Facts(refusal=None, xids=(_FELL,), cards=4, now_s=100_000.0),
)
