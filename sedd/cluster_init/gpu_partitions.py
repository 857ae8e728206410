"""Which partition has the cards to train on, and what they are. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.assoc_state import QosChoice
from sedd.cluster.site import Node, Partition
from sedd.cluster_init.site_facts import SiteFacts
from sedd.errors import ClusterError

_MEMORY = re.compile(r"(?<!\d)(16|24|32|40|48|80|96|141)\s?(?:g|gb|gib)(?![a-z0-9])", re.IGNORECASE)
"""A card's memory in the name of a Gres or a node feature: `v100-32g`, `gpu_v100_16GB`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The GPUs of one kind in a partition: those that the profile will ask for.

    Attributes:
        kind: the type's name in Gres; "" where the site names none.
        nodes: that hold them.
        memories: of a card in GiB, as far as names of types and features tell, with the number of nodes.
        others: further kinds in the same partition.
    """

    kind: str
    nodes: tuple[Node, ...]
    memories: Counter[int]
    others: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Cards in all."""
        return sum(node.gpus.get(self.kind, 0) for node in self.nodes)


def choose_partition(facts: SiteFacts) -> Partition:
    """The partition for training: with V100s before other cards, the site's default, then the one with most cards.

    Raises:
        ClusterError: none with GPUs is open to this user.
    """
    with_cards = [p for p in facts.partitions if has_gpus(p, facts.nodes)]
    open_to_us = [p for p in with_cards if is_open(p, facts.choices)]
    if not open_to_us:
        names = ", ".join(p.name for p in with_cards)
        raise ClusterError(
            f"this site has no GPUs for {facts.user}" if with_cards else "SLURM shows no node with GPUs here",
            hint=f"partitions with GPUs, closed to your accounts or down: {names}" if names else None,
        )
    return max(open_to_us, key=lambda p: _rank(p, facts.nodes))


def _rank(partition: Partition, nodes: Sequence[Node]) -> tuple[bool, bool, int]:
    cards = cards_of(partition, nodes)
    return is_v100(cards.kind, cards.nodes), partition.is_default, cards.count


def is_open(partition: Partition, choices: Sequence[QosChoice] | None) -> bool:
    """Whether it takes this user's jobs, as far as is known: up, and open to one of the accounts and QOS."""
    if partition.state != "UP":
        return False
    if choices is None:
        return True
    accounts = {choice.account for choice in choices}
    qos = {name for choice in choices for name in choice.allowed}
    by_account = partition.allow_accounts is None or bool(accounts & {*partition.allow_accounts})
    by_qos = partition.allow_qos is None or not qos or bool(qos & {*partition.allow_qos})
    return by_account and by_qos


def nodes_of(partition: Partition, nodes: Sequence[Node]) -> list[Node]:
    """The partition's nodes: those that work, or all of them if none does."""
    own = [node for node in nodes if partition.name in node.partitions]
    return [node for node in own if node.is_usable] or own


def cards_of(partition: Partition, nodes: Sequence[Node]) -> Cards:
    """The V100s of a partition, else its most numerous cards."""
    own = [node for node in nodes_of(partition, nodes) if node.gpus]
    counts = Counter[str]()
    for node in own:
        counts.update(node.gpus)
    kinds = sorted(counts, key=lambda kind: (not is_v100(kind, own), -counts[kind], kind))
    kind = kinds[0]
    holders = tuple(node for node in own if kind in node.gpus)
    memories = Counter(m for node in holders if (m := _memory_of(kind, node)) is not None)
    return Cards(kind=kind, nodes=holders, memories=memories, others=tuple(kinds[1:]))


def is_v100(kind: str, nodes: Sequence[Node]) -> bool:
    """Whether cards are V100s: by their type, or by a feature of nodes whose cards have no type."""
    by_feature = any("v100" in feature.lower() for node in nodes for feature in node.features)
    return "v100" in kind.lower() or (not kind and by_feature)


def has_gpus(partition: Partition, nodes: Sequence[Node]) -> bool:
    """Whether a node of the partition has a GPU."""
    return any(node.gpus for node in nodes_of(partition, nodes))


def _memory_of(kind: str, node: Node) -> int | None:
    texts = (kind, *sorted(node.features))
    return next((memory for text in texts if (memory := memory_named(text)) is not None), None)


def memory_named(text: str) -> int | None:
    """The GiB of a card that a name tells; None where it tells none."""
    match = _MEMORY.search(text)
    return int(match[1]) if match else None
