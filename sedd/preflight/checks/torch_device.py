"""Torch itself on this node: it imports, sees the card, holds kernels for it, and the driver is new enough."""

from dataclasses import dataclass, replace
from typing import Any

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, combine, fail, ok, warn
from sedd.preflight.read.cards import query_driver
from sedd.preflight.read.device import capability_of, training_device
from sedd.preflight.read.torch_wheel import covers, install_command
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask

# Oldest Linux driver for each CUDA major version: minor versions are compatible with it (CUDA release notes).
_DRIVER_FROM = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
_CUDNN_WITHOUT_VOLTA = 91_100


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    import_error: str | None
    version: str = ""
    cuda: str | None = None
    needs_gpu: bool = False
    device: str = "cpu"
    capability: tuple[int, int] | None = None
    archs: tuple[str, ...] = ()
    cudnn: int | None = None
    driver: str | None = None
    threads: int = 1
    can_cut: bool = True
    """False where the spec says shard: full, and this torch cannot do that here."""


def gather(context: CheckContext) -> Facts:
    try:
        import torch
    except (ImportError, OSError) as e:  # OSError: a shared library that is missing
        return Facts(import_error=str(e).splitlines()[0])
    device = training_device(context)
    on_gpu, driver = device.type == "cuda", query_driver()
    cudnn: Any = torch.backends.cudnn  # without types in torch itself
    wanted = context.experiment
    is_cut = isinstance(wanted, Experiment) and wanted.training.shard == "full" and wanted.resources.ranks > 1
    return Facts(
        import_error=None,
        version=torch.__version__,
        cuda=torch.version.cuda,
        needs_gpu=context.experiment.resources.gpus_per_node > 0,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        capability=capability_of(device),
        archs=tuple(torch.cuda.get_arch_list()) if on_gpu else (),
        cudnn=cudnn.version() if on_gpu else None,
        driver=driver.version if driver else None,
        threads=torch.get_num_threads(),
        can_cut=not is_cut or on_gpu or torch.__version__ >= "2.10",
    )


def judge(facts: Facts) -> Verdict:
    if facts.import_error is not None:
        return fail(f"import torch: {facts.import_error}", install_command(None))
    build = f"torch {facts.version}"
    if not facts.needs_gpu and not facts.can_cut:
        return fail(
            f"{build} cannot train with shard: full on a CPU",
            "torch 2.10 can; training.shard: optimizer works with this one",
            Fault.JOB,
        )
    if not facts.needs_gpu:
        return ok(f"{build} on the CPU, {facts.threads} {'thread' if facts.threads == 1 else 'threads'}")
    if facts.cuda is None:
        return fail(
            f"{build} is built without CUDA, and the job asks for GPUs", install_command(facts.capability)
        )
    if facts.driver and _is_older(
        facts.driver, oldest := _DRIVER_FROM.get(int(facts.cuda.split(".")[0]), "0")
    ):
        return fail(
            f"driver {facts.driver} is too old for {build} (CUDA {facts.cuda})",
            f"it needs driver {oldest}: ask the site, exclude the node, or install a torch for an older CUDA",
        )
    if facts.capability is None:
        return fail(f"{build} sees no GPU", "nvidia-smi, CUDA_VISIBLE_DEVICES and the driver say more")
    return combine(
        _problems(facts), all_well=f"{build} on {facts.device}, sm_{_digits(facts)}, driver {facts.driver}"
    )


def _problems(facts: Facts) -> list[Verdict]:
    found = []
    if facts.capability and not covers(facts.archs, facts.capability):
        card = f"{facts.device} (sm_{_digits(facts)})"
        saw = f"torch {facts.version} has no kernels for {card}: only {' '.join(facts.archs)}"
        found.append(fail(saw, install_command(facts.capability)))
    if facts.capability and facts.capability < (7, 5) and (facts.cudnn or 0) >= _CUDNN_WITHOUT_VOLTA:
        saw = f"cuDNN {facts.cudnn} no longer knows sm_{_digits(facts)}"
        found.append(warn(saw, f"nothing here uses cuDNN; to be safe: {install_command(facts.capability)}"))
    return found


def _is_older(version: str, oldest: str) -> bool:
    return [int(n) for n in version.split(".") if n.isdigit()] < [int(n) for n in oldest.split(".")]


def _digits(facts: Facts) -> str:
    return "".join(map(str, facts.capability or ()))


_WELL = Facts(
    import_error=None,
    version="2.10.0+cu128",
    cuda="12.8",
    needs_gpu=True,
    device="Tesla V100-SXM2-32GB",
    capability=(7, 0),
    archs=("sm_70", "sm_80"),
    cudnn=91_002,
    driver="570.124.06",
)

CHECK = Check(
    tasks=(Experiment, TrainedTask),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="torch that does not import, sees no GPU, has no kernels for it, or wants a newer driver",
    takes="import of torch",
    passing=_WELL,
    failing=replace(_WELL, driver="470.82.01"),
)
