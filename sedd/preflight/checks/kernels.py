"""Kernels that the spec insists on, against the cards that will run it: known before anything waits in a queue."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, warn
from sedd.preflight.read.device import TRITON_FROM, weakest_capability
from sedd.spec.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    wants_fused: bool
    wants_compiled: bool
    wants_graphs: bool = False
    graph_obstacle: str | None = None
    """Why gradients cannot be replayed as CUDA graphs, where the spec insists on it."""
    needs_gpu: bool
    capability: tuple[int, int] | None
    """Of the weakest card; None where it is not known."""


def gather(context: CheckContext) -> Facts | None:
    training = context.training_run.training
    wants_fused, wants_compiled = training.kernels == "fused", training.compile is True
    wants_graphs = training.cuda_graphs is True
    if not (wants_fused or wants_compiled or wants_graphs):
        return None
    needs_gpu = context.training_run.resources.gpus_per_node > 0
    obstacle = context.training_run.graph_obstacle if needs_gpu else "there is no GPU"
    return Facts(
        wants_fused=wants_fused,
        wants_compiled=wants_compiled,
        wants_graphs=wants_graphs,
        graph_obstacle=obstacle if wants_graphs else None,
        needs_gpu=needs_gpu,
        capability=weakest_capability(context) if needs_gpu else None,
    )


def judge(facts: Facts) -> Verdict:
    if facts.wants_fused and not facts.needs_gpu:
        return fail("fused kernels on a CPU: they are for GPUs", "training.kernels: auto")
    if facts.graph_obstacle is not None:
        return fail(
            f"training.cuda_graphs is true, but {facts.graph_obstacle}", "auto records graphs where it can"
        )
    if facts.wants_compiled and facts.capability is not None and facts.capability < TRITON_FROM:
        where = f"compute capability {facts.capability[0]}.{facts.capability[1]}"
        return warn(
            f"torch.compile on {where}: Triton's own support begins at 8.0",
            "training.compile: false takes fused kernels, which are faster and made for such cards; "
            "the node's check compiled_step will tell",
        )
    wanted = {
        "fused kernels": facts.wants_fused,
        "torch.compile": facts.wants_compiled,
        "CUDA graphs": facts.wants_graphs,
    }
    return ok(" and ".join(name for name, is_wanted in wanted.items() if is_wanted))


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN,),
    catches="fused kernels or CUDA graphs forced where they cannot be, torch.compile on a card that Triton does not "
    "support",
    takes="< 0.1 s",
    passing=Facts(wants_fused=True, wants_compiled=False, needs_gpu=True, capability=(7, 0)),
    failing=Facts(wants_fused=True, wants_compiled=False, needs_gpu=False, capability=None),
)
