"""Torch on a node: import, device, architecture, driver, number format, loss scaler."""

import builtins
import dataclasses

import pytest
from torch.torch_version import TorchVersion

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks import attention, gpu_memory, loss_scaler, main_memory, precision, torch_device
from sedd.preflight.context import Side
from sedd.preflight.finding import Fault, Status
from sedd.preflight.read import cards
from tests.preflight.slurm_facts import profile

GPU = {"resources.gpus_per_node": 1}
WELL = torch_device.CHECK.passing


def test_torch_that_does_not_import_fails_with_its_error(monkeypatch, make_context):
    real = builtins.__import__

    def broken(name, *rest, **more):
        if name == "torch":
            raise ImportError("libcudart.so.12: cannot open shared object file")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    facts = torch_device.gather(make_context(side=Side.NODE))
    monkeypatch.undo()
    verdict = torch_device.judge(facts)
    assert verdict.status is Status.FAIL
    assert "libcudart.so.12" in verdict.saw


def test_cpu_job_on_this_machine_is_well(make_context):
    assert torch_device.judge(torch_device.gather(make_context(side=Side.NODE))).status is Status.OK


def test_a_torch_that_cannot_cut_a_network_on_a_cpu_fails_by_its_version(monkeypatch, make_context):
    monkeypatch.setattr("torch.__version__", TorchVersion("2.8.0+cu128"))
    cut = {"training.shard": "full", "training.residues_per_gpu": 256, "resources.processes_per_node": 2}
    verdict = torch_device.judge(torch_device.gather(make_context(cut, side=Side.NODE)))
    assert (verdict.status, verdict.fault) == (Status.FAIL, Fault.JOB)
    assert "2.8.0" in verdict.saw
    assert "torch 2.10 can" in verdict.hint
    monkeypatch.setattr("torch.__version__", TorchVersion("2.10.0+cu128"))
    assert torch_device.judge(torch_device.gather(make_context(cut, side=Side.NODE))).status is Status.OK
    monkeypatch.setattr("torch.__version__", TorchVersion("2.8.0+cu128"))
    for fits in (cut | {"training.shard": "optimizer"}, cut | {"resources.processes_per_node": 1}):
        assert torch_device.judge(torch_device.gather(make_context(fits, side=Side.NODE))).status is Status.OK


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"cuda": None, "capability": None}, Status.FAIL, "without CUDA"),
        ({"capability": None}, Status.FAIL, "sees no GPU"),
        ({"archs": ("sm_75", "sm_80")}, Status.FAIL, "no kernels for Tesla V100"),
        ({"driver": "470.82.01"}, Status.FAIL, "470.82.01 is too old"),
        ({"cuda": "13.0", "driver": "570.124.06"}, Status.FAIL, "too old"),
        ({"driver": "525.60.13"}, Status.OK, "sm_70"),
        ({"driver": None}, Status.OK, "sm_70"),
        ({"cudnn": 91_100}, Status.WARN, "cuDNN"),
        ({"cudnn": 91_100, "capability": (8, 0)}, Status.OK, "sm_80"),
    ],
)
def test_device(changes, status, words):
    verdict = torch_device.judge(dataclasses.replace(WELL, **changes))
    assert verdict.status is status
    assert words in verdict.saw


@pytest.mark.parametrize(
    ("asked", "gpu", "status", "words"),
    [
        ("bf16", "v100", Status.FAIL, "compute capability 7.0"),
        ("bf16", "a100", Status.OK, "bf16"),
        ("bf16", None, Status.WARN, "nobody named"),
        ("auto", "v100", Status.OK, "fp16 with loss scaling"),
        ("auto", "a100", Status.OK, "auto: bf16"),
        ("auto", None, Status.OK, "auto"),
    ],
)
def test_precision(make_context, asked, gpu, status, words):
    context = make_context({**GPU, "training.precision": asked}, profile=profile(gpu={"type": gpu}))
    verdict = precision.judge(precision.gather(context))
    assert verdict.status is status
    assert words in verdict.saw


def test_fp16_on_a_cpu_fails(make_context):
    verdict = precision.judge(precision.gather(make_context({"training.precision": "fp16"})))
    assert verdict.status is Status.FAIL


@pytest.mark.parametrize(
    ("memory", "residues", "status"),
    [("32GiB", 32_768, Status.OK), ("16GiB", 262_144, Status.FAIL), (None, 32_768, Status.UNKNOWN)],
)
def test_memory_of_the_card(monkeypatch, make_context, memory, residues, status):
    monkeypatch.setattr(cards, "query_driver", lambda: None)
    spec = {**GPU, "model": {}, "training.residues_per_gpu": residues, "training.residues_per_step": 262_144}
    facts = gpu_memory.gather(make_context(spec, profile=profile(gpu={"memory": memory} if memory else {})))
    verdict = gpu_memory.judge(facts)
    assert facts.parameters == 23_930_880
    assert verdict.status is status
    if status is Status.FAIL:
        fitting = gpu_memory.judge(gpu_memory.gather(make_context(
            {**spec, "training.residues_per_gpu": facts.fitting}, profile=profile(gpu={"memory": memory})
        )))  # fmt: skip
        assert fitting.status is Status.OK


@pytest.mark.parametrize(("processes", "status"), [(1, Status.OK), (2, Status.OK), (4, Status.FAIL)])
def test_two_processes_never_train_on_one_card(monkeypatch, make_context, processes, status):
    """NCCL: `Duplicate GPU detected`, which counts as a fault of the node."""
    monkeypatch.setattr(cards, "query_driver", lambda: None)
    shape = {"resources.gpus_per_node": 2, "resources.processes_per_node": processes}
    spec = {**shape, "training.residues_per_step": 2048}
    facts = gpu_memory.gather(make_context(spec, profile=profile(gpu={"memory": "32GiB"})))
    verdict = gpu_memory.judge(facts)
    assert verdict.status is status
    assert (verdict.saw.startswith("4 processes for 2 GPUs of a node")) is (status is Status.FAIL)


@pytest.mark.parametrize(("memory", "status"), [("8GiB", Status.OK), ("4GiB", Status.WARN)])
def test_main_memory_of_four_processes(make_context, memory, status):
    shared = {"training.residues_per_step": 2048, "resources.gpus_per_node": 4}
    spec = {"model": {}, "resources.memory": memory, **shared}
    verdict = main_memory.judge(main_memory.gather(make_context(spec, profile=profile(gpu={}))))
    assert verdict.status is status
    assert "4 processes and the copy for checkpoints (365 MiB) take about 6.0 GiB" in verdict.saw
    assert status is Status.OK or "resources.memory: 6GiB or more" in verdict.hint


@pytest.mark.parametrize(("memory", "status"), [("1GiB", Status.OK), ("300MiB", Status.WARN)])
def test_main_memory_of_a_training_on_cpus_holds_what_a_card_would(make_context, memory, status):
    small = {"hidden": 128, "cond": 64, "blocks": 3, "heads": 4}
    spec = {"model": small, "resources.memory": memory, "resources.gpus_per_node": 0}
    spec |= {"training.residues_per_step": 4096, "training.residues_per_gpu": 4096}
    facts = main_memory.gather(make_context(spec, profile=profile(gpu={})))
    assert facts is not None
    assert 0.9 * 534 * 2**20 < facts.needed_bytes < 1.1 * 534 * 2**20, "measured"
    assert main_memory.judge(facts).status is status


@pytest.mark.parametrize("spec", [{}, GPU])
def test_main_memory_is_asked_of_slurm(make_context, spec):
    assert main_memory.gather(make_context(spec, profile=LocalProfile(executor="local"))) is None


def test_cpu_job_needs_no_card(make_context):
    assert gpu_memory.gather(make_context(profile=LocalProfile(executor="local"))) is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, Status.OK), ({"skipped_overflow": False}, Status.FAIL), ({"scale_after": 65536.0}, Status.FAIL),
     ({"stepped_after": False}, Status.FAIL)],
)  # fmt: skip
def test_loss_scaler(changes, status):
    assert loss_scaler.judge(dataclasses.replace(loss_scaler.CHECK.passing, **changes)).status is status


def test_no_loss_scaler_on_a_cpu(make_context):
    assert loss_scaler.gather(make_context(side=Side.NODE)) is None


@pytest.mark.parametrize(
    ("asked", "number", "capability", "status"),
    [
        ("efficient", "auto", (7, 0), Status.OK),
        ("efficient", "bf16", (7, 0), Status.FAIL),
        ("efficient", "auto", (9, 0), Status.OK),
        ("flash", "auto", (7, 0), Status.FAIL),
        ("flash", "fp16", (7, 5), Status.FAIL),
        ("flash", "fp32", (9, 0), Status.FAIL),
        ("flash", "auto", (8, 0), Status.OK),
        ("flash", "auto", None, Status.UNKNOWN),
        ("tiled", "auto", (7, 0), Status.OK),
        ("tiled", "fp16", (9, 0), Status.OK),
        ("tiled", "auto", (8, 0), Status.FAIL),
        ("tiled", "fp32", (7, 0), Status.FAIL),
        ("tiled", "fp16", (6, 1), Status.FAIL),
        ("padded", "auto", (7, 0), Status.OK),
        ("explicit", "auto", (9, 0), Status.WARN),
    ],
)
def test_a_forced_attention_kernel_is_held_against_the_card(asked, number, capability, status):
    facts = attention.Facts(asked=asked, precision=number, needs_gpu=True, capability=capability)
    verdict = attention.judge(facts)
    assert verdict.status is status
    assert verdict.hint or status is Status.OK


def test_attention_left_to_the_toolkit_raises_no_question(make_context):
    assert attention.gather(make_context(GPU)) is None
