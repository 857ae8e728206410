"""A profile for a site, line by line, each with its reason. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sedd.cluster.assoc_state import QosChoice
from sedd.cluster.site import Partition
from sedd.cluster_init.gpu_partitions import (
    Cards,
    cards_of,
    choose_partition,
    has_gpus,
    is_open,
    memory_named,
    nodes_of,
)
from sedd.cluster_init.site_facts import SiteFacts
from sedd.errors import SpecError
from sedd.units import counted, exact_duration, format_duration
from sedd.yaml import StrictModel, parse_document, validate


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a profile.

    Attributes:
        yaml: as it is written.
        reason: why, in whole sentences.
        is_active: False: it is written as a comment, for the user to decide.
    """

    yaml: str
    reason: str
    is_active: bool = True


class _Name(StrictModel):
    """What a line of a profile holds, as a profile's reader takes it."""

    name: str


def quoted(name: str) -> str:
    """A site's name as it must be written to be read back: `gpu`, and in quotes `'3090'`, `'012345'`, `'no'`."""
    try:
        is_plain = validate(_Name, parse_document(f"{{name: {name}}}", name="")).name == name
    except SpecError:
        is_plain = False
    return name if is_plain else "'" + name.replace("'", "''") + "'"


def propose(facts: SiteFacts) -> tuple[Line, ...]:
    """The lines of a profile for this site and user.

    Raises:
        ClusterError: there is no partition with GPUs that this user may use.
    """
    partition = choose_partition(facts)
    cards = cards_of(partition, facts.nodes)
    choice = _choice_for(partition, facts.choices or ())
    return (
        Line("executor: slurm", f"SLURM {facts.config.version}, {_how_many(facts)}."),
        Line(f"partition: {quoted(partition.name)}", _about_partition(partition, cards, facts)),
        *_account(facts, choice),
        *_qos(choice),
        *_gpu(cards),
        *_cpu(facts),
        *_walltime(partition, choice, facts),
        *_preemption(partition, facts),
        *_python(facts),
        *_node_folder(facts),
        Line(
            "wandb: offline",
            "Compute nodes rarely reach the internet: `wandb sync` later. Where they do: online.",
        ),
        Line("mail: {user: you@example.org, type: [END, FAIL]}", "", is_active=False),
    )


def _how_many(facts: SiteFacts) -> str:
    usable = sum(node.is_usable for node in facts.nodes)
    return f"cluster {facts.config.cluster or 'without a name'}, {usable} of {counted(len(facts.nodes), 'node')} usable"


def _about_partition(partition: Partition, cards: Cards, facts: SiteFacts) -> str:
    kind = cards.kind or "of no named type"
    text = f"{counted(len(cards.nodes), 'node')} with {counted(cards.count, 'GPU')} ({kind})."
    if partition.is_default:
        text += " It is the site's default."
    others = [p for p in facts.partitions if p != partition and has_gpus(p, facts.nodes)]
    closed = [p.name for p in others if not is_open(p, facts.choices)]
    ours = [p.name for p in others if is_open(p, facts.choices)]
    if ours:
        text += f" Also with GPUs: {', '.join(ours)}."
    return text + (f" Closed to you, or down: {', '.join(closed)}." if closed else "")


def _choice_for(partition: Partition, choices: Sequence[QosChoice]) -> QosChoice | None:
    """The association that a job in the partition would be charged to."""
    allowed = [
        choice
        for choice in choices
        if choice.partition in ("", partition.name)
        and (partition.allow_accounts is None or choice.account in partition.allow_accounts)
    ]
    named = [choice for choice in allowed if choice.account != "root"]
    return next(iter(named or allowed), None)


def _account(facts: SiteFacts, choice: QosChoice | None) -> Iterator[Line]:
    if facts.choices is None:
        yield Line("account: my-project", "SLURM did not show your accounts.", is_active=False)
        return
    accounts = list(dict.fromkeys(each.account for each in facts.choices))
    if choice is None:
        yield Line("account: my-project", "You have none for this partition.", is_active=False)
        return
    others = [name for name in accounts if name != choice.account]
    reason = f"Your other accounts: {', '.join(others)}." if others else "Your only account."
    if "associations" not in facts.config.enforced and "limits" not in facts.config.enforced:
        reason += " This site does not enforce it."
    yield Line(f"account: {quoted(choice.account)}", reason)


def _qos(choice: QosChoice | None) -> Iterator[Line]:
    if choice is None or not choice.allowed:
        return
    default = choice.default or ("normal" if "normal" in choice.allowed else choice.allowed[0])
    reason = f"You may name {', '.join(choice.allowed)}; without a name a job gets {default}."
    yield Line(f"qos: {quoted(default)}", reason, is_active=False)


def _gpu(cards: Cards) -> Iterator[Line]:
    if cards.others:
        yield from _constraint_by_kind(cards)
    fields = [f"type: {quoted(cards.kind)}"] if cards.kind else []
    memory = max(cards.memories, default=None)
    if len(cards.memories) == 1 and memory is not None:
        fields.append(f"memory: {memory}GiB")
        why = f"Memory as {'types' if memory_named(cards.kind) else 'features'} of nodes name it."
    else:
        why = "SLURM does not say how much memory a card has: `nvidia-smi` on a node does."
        if len(cards.memories) > 1:
            shown = ", ".join(f"{counted(n, 'node')} of {m} GiB" for m, n in sorted(cards.memories.items()))
            why = f"Cards differ in memory ({shown}): choose by a constraint, and say it here."
    if not fields:
        yield Line("gpu: {memory: 32GiB}", why, is_active=False)
        return
    yield Line(f"gpu: {{{', '.join(fields)}}}", why)
    if len(cards.memories) != 1:
        full = ", ".join([*fields, f"memory: {memory or 32}GiB"])
        yield Line(f"gpu: {{{full}}}", "", is_active=False)
    if len(cards.memories) > 1 and memory is not None:
        yield Line(
            f"constraint: {quoted(_feature_of(memory, cards))}", "The larger cards alone:", is_active=False
        )


def _constraint_by_kind(cards: Cards) -> Iterator[Line]:
    """Where cards have no type, a feature of their nodes must tell them apart."""
    if not cards.kind:
        yield Line(
            "constraint: v100",
            f"Other cards are in the same partition: {', '.join(cards.others)}.",
            is_active=False,
        )


def _feature_of(memory: int, cards: Cards) -> str:
    """The feature that names so much memory; shared by nodes with it."""
    features = Counter(
        feature for node in cards.nodes for feature in node.features if memory_named(feature) == memory
    )
    return features.most_common(1)[0][0] if features else f"{memory}g"


def _cpu(facts: SiteFacts) -> Iterator[Line]:
    without = [p for p in facts.partitions if is_open(p, facts.choices) and not has_gpus(p, facts.nodes)]
    without = [p for p in without if nodes_of(p, facts.nodes)]
    if not without:
        yield Line(
            "cpu: {partition: cpu}",
            "No partition without GPUs is open to you: `task: data` goes where the others go.",
            is_active=False,
        )
        return
    best = max(without, key=lambda p: (p.is_default, len(nodes_of(p, facts.nodes))))
    count = len(nodes_of(best, facts.nodes))
    yield Line(
        f"cpu: {{partition: {quoted(best.name)}}}",
        f"Jobs without GPUs, such as `task: data`: {counted(count, 'node')} without GPUs.",
    )


def _walltime(partition: Partition, choice: QosChoice | None, facts: SiteFacts) -> Iterator[Line]:
    qos = choice.default if choice else ""
    limits = {
        f"partition '{partition.name}'": partition.max_time_s,
        f"QOS '{qos}'": facts.qos_walltimes.get(qos),
    }
    known = {name: seconds for name, seconds in limits.items() if seconds is not None}
    default = partition.default_time_s
    without = (
        f" A job that asks for no time limit gets {format_duration(default)}." if default is not None else ""
    )
    why = "A spec's longer walltime is cut to this; the run requeues itself and continues."
    if not known:
        yield Line("max_walltime: 24h", f"This partition sets no limit.{without} {why}", is_active=False)
        return
    holder = min(known, key=lambda name: known[name])
    yield Line(
        f"max_walltime: {exact_duration(known[holder])}",
        f"The longest time limit in {holder}.{without} {why}",
    )


def _preemption(partition: Partition, facts: SiteFacts) -> Iterator[Line]:
    config = facts.config
    is_off = (
        partition.preempt_mode == "OFF" or config.preempt_type.endswith("none") or not config.preempt_type
    )
    if is_off:
        reason = "Nothing preempts jobs of this partition."
    else:
        notice = (
            f"{format_duration(partition.grace_s)} of grace"
            if partition.grace_s
            else f"no grace, {format_duration(config.kill_wait_s)} from SIGTERM to SIGKILL (KillWait)"
        )
        reason = f"Jobs here may be preempted (PreemptMode={partition.preempt_mode}): {notice}."
    if not config.job_requeue:
        reason += " JobRequeue=0: jobs ask for being requeued."
    reason += (
        " When a run has to leave its node, a new job continues it at once; with true the same job is requeued,"
        " which takes two minutes longer."
    )
    yield Line("requeue: true", reason, is_active=False)


def _python(facts: SiteFacts) -> Iterator[Line]:
    reason = f"Jobs run the Python that submits, {facts.python}: the nodes must see it."
    lines = ", ".join(quoted(f"module load {name}") for name in facts.modules) or "module load cuda"
    if facts.modules:
        reason += " You have these modules loaded; jobs inherit the environment, so this is rarely needed."
    yield Line(f"setup: [{lines}]", reason, is_active=False)


def _node_folder(facts: SiteFacts) -> Iterator[Line]:
    found = facts.node_folders
    folder = found[0] if found else "/scratch/$USER"
    reason = "A fast folder of the node itself becomes TMPDIR."
    if len(found) > 1:
        reason += f" It may also be {', '.join(found[1:])}."
    yield Line(f"scratch: {quoted(folder)}", reason, is_active=False)
