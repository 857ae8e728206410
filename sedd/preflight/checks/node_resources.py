"""GPUs, cores and memory that the spec asks of a node, against the nodes that the partition has."""

from dataclasses import dataclass

from sedd.cluster.site import Node
from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, unknown, warn
from sedd.units import counted, format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    nodes: int
    gpus: int
    gpu_type: str | None
    cpus: int
    memory_bytes: int
    present: tuple[Node, ...]


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    asked = context.experiment.resources
    return Facts(
        nodes=asked.nodes,
        gpus=asked.gpus_per_node,
        gpu_type=context.site.gpu.type,
        cpus=asked.cpus_per_process * asked.ranks_per_node,
        memory_bytes=asked.memory,
        present=tuple(context.query_own_nodes()),
    )


def judge(facts: Facts) -> Verdict:
    if not facts.present:
        return unknown("SLURM shows no nodes of the partition", "look with: sinfo -N")
    wanted = f"{counted(facts.gpus, _gpu(facts.gpu_type))}, " if facts.gpus else ""
    wanted += f"{counted(facts.cpus, 'core')}, {format_bytes(facts.memory_bytes)}"
    fitting = [node for node in facts.present if _fits(facts, node)]
    if len(fitting) < facts.nodes:
        return fail(
            f"{len(fitting)} of {len(facts.present)} nodes have {wanted}; the job takes {facts.nodes}",
            f"the partition's nodes have {_offer(facts.present)}: change resources in the spec, or gpu.type",
        )
    usable = sum(node.is_usable for node in fitting)
    if usable < facts.nodes:
        reasons = dict.fromkeys(f"{n.name} {'+'.join(n.state)}" for n in fitting if not n.is_usable)
        return warn(
            f"{usable} of {len(fitting)} nodes with {wanted} can start jobs now "
            f"({', '.join(list(reasons)[:3])})",
            "the job will wait until more are back: sinfo -R says why they are down",
        )
    return ok(f"{usable} of {len(facts.present)} nodes have {wanted}")


def _gpu(kind: str | None) -> str:
    return f"{kind} GPU" if kind else "GPU"


def _fits(facts: Facts, node: Node) -> bool:
    gpus = node.gpus.get(facts.gpu_type, 0) if facts.gpu_type else sum(node.gpus.values())
    has_memory = node.memory_mib << 20 >= facts.memory_bytes
    return gpus >= facts.gpus and node.cpus >= facts.cpus and has_memory


def _offer(nodes: tuple[Node, ...]) -> str:
    """What kinds of nodes there are, the most common first."""
    kinds: dict[str, int] = {}
    for node in nodes:
        gpus = (
            ", ".join(counted(count, _gpu(kind or "untyped")) for kind, count in node.gpus.items())
            or "no GPUs"
        )
        words = f"{gpus}, {counted(node.cpus, 'core')}, {format_bytes(node.memory_mib << 20)}"
        kinds[words] = kinds.get(words, 0) + 1
    return " or ".join(sorted(kinds, key=lambda words: -kinds[words])[:3])


_NODE = Node(
    name="v100-1",
    state=("IDLE",),
    partitions=("gpu",),
    cpus=40,
    memory_mib=384_000,
    gpus={"v100": 4},
    used_gpus=0,
    features=(),
    reason=None,
)

CHECK = Check(
    sides=(Side.LOGIN,),
    catches="more GPUs, cores or memory than any node has; a GPU type that is spelt otherwise; nodes down",
    takes="0.1 s",
    passing=Facts(nodes=1, gpus=4, gpu_type="v100", cpus=16, memory_bytes=64 << 30, present=(_NODE,)),
    failing=Facts(nodes=1, gpus=8, gpu_type="v100", cpus=32, memory_bytes=64 << 30, present=(_NODE,)),
)
