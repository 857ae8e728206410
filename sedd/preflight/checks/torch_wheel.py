"""The installed torch: is it there, and does it hold kernels for the cards?"""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, unknown
from sedd.preflight.read.cards import query_driver
from sedd.preflight.read.torch_wheel import Wheel, capability_of, covers, install_command, query_wheel
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    wheel: Wheel | None
    needs_gpu: bool
    cards: tuple[tuple[str, tuple[int, int] | None], ...]
    """Name and compute capability of the cards that the job may get; empty: nobody could say."""


def gather(context: CheckContext) -> Facts:
    needs_gpu = context.experiment.resources.gpus_per_node > 0
    wheel = context.answers.once("wheel", query_wheel)
    return Facts(wheel=wheel, needs_gpu=needs_gpu, cards=_cards(context) if needs_gpu else ())


def judge(facts: Facts) -> Verdict:
    wheel, capabilities = facts.wheel, [c for _, c in facts.cards if c]
    command = install_command(min(capabilities, default=None))
    if wheel is None:
        return fail("torch is not installed in this Python", command)
    build = f"torch {wheel.version}"
    if not facts.needs_gpu:
        return ok(f"{build}; the job uses no GPU")
    if wheel.hip:
        return unknown(f"{build} is a ROCm build", "this project is made for NVIDIA cards")
    if wheel.cuda is None:
        return fail(f"{build} is built without CUDA, and the job asks for GPUs", command)
    if wheel.archs is None:
        return unknown(
            f"{build}: its list of architectures was not found",
            "sedd preflight SPEC --node asks torch itself",
        )
    if not capabilities:
        names = ", ".join(name for name, _ in facts.cards) or "no GPU type"
        return unknown(
            f"{build} for {' '.join(wheel.archs)}; the cards are unknown ({names})",
            "name the partition's card in the profile, gpu: {type: v100}",
        )
    bare = [name for name, capability in facts.cards if capability and not covers(wheel.archs, capability)]
    if bare:
        return fail(
            f"{build} has no kernels for {', '.join(bare)} (sm_{_digits(min(capabilities))}): "
            f"only {' '.join(wheel.archs)}",
            command,
        )
    cards = ", ".join(f"{name} (sm_{_digits(c)})" for name, c in facts.cards if c)
    return ok(f"{build} has kernels for {cards}")


def _cards(context: CheckContext) -> tuple[tuple[str, tuple[int, int] | None], ...]:
    """The profile's GPU type; else this machine's own cards; else the types that SLURM names on the nodes."""
    if gpu_type := context.profile.gpu.type:
        return ((gpu_type, capability_of(gpu_type)),)
    if context.site is None:
        driver = query_driver()
        return tuple((card.name, card.capability) for card in driver.cards) if driver else ()
    nodes = context.query_own_nodes()
    types = sorted({gpu_type for node in nodes for gpu_type in node.gpus if gpu_type})
    return tuple((gpu_type, capability_of(gpu_type)) for gpu_type in types)


def _digits(capability: tuple[int, int]) -> str:
    return f"{capability[0]}{capability[1]}"


_OLD = Wheel(version="2.10.0+cu128", cuda="12.8", archs=("sm_70", "sm_80", "sm_90"))
_NEW = Wheel(version="2.14.1+cu130", cuda="13.0", archs=("sm_75", "sm_80", "sm_90"))
_V100 = (("v100", (7, 0)),)

CHECK = Check(
    tasks=(Experiment, TrainedTask),
    sides=(Side.LOGIN,),
    catches="no torch, torch without CUDA, torch without kernels for the card (no sm_70 on a V100)",
    takes="0.1 s",
    passing=Facts(wheel=_OLD, needs_gpu=True, cards=_V100),
    failing=Facts(wheel=_NEW, needs_gpu=True, cards=_V100),
)
