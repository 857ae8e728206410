"""Which attention kernel a network trains with, and whether it is compiled."""

import pytest
import torch

from sedd.diffusion.times import T_MIN, lattice
from sedd.errors import SpecError
from sedd.model import block_ops
from sedd.model.fused import tiled_attention
from sedd.training.loader import DeviceBatch
from sedd.training.network import _times, choose_attention, choose_kernels, compiles

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "asked", "dtype", "chosen"),
    [
        ((7, 0), "auto", torch.float16, "tiled"),
        ((7, 0), "efficient", torch.float16, "efficient"),
        ((7, 0), "efficient", torch.float32, "efficient"),
        ((7, 0), "padded", torch.float16, "padded"),
        ((9, 0), "auto", torch.bfloat16, "flash"),
        ((9, 0), "efficient", torch.bfloat16, "efficient"),
    ],
)
def test_what_the_spec_names_is_taken_and_auto_is_the_fastest_legal(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], asked: str, dtype: torch.dtype, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(tiled_attention, "_why_not", lambda device, capability: None)
    assert choose_attention(asked, GPU, dtype) == chosen


@pytest.mark.parametrize(
    ("capability", "asked", "dtype"),
    [
        ((7, 0), "flash", torch.float16),
        ((7, 0), "efficient", torch.bfloat16),
        ((9, 0), "flash", torch.float32),
        ((9, 0), "efficient", torch.float64),
        ((7, 0), "tiled", torch.float32),
    ],
)
def test_a_kernel_that_the_card_lacks_is_refused_with_what_auto_takes(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], asked: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(tiled_attention, "_why_not", lambda device, capability: None)
    with pytest.raises(SpecError, match=rf"training.attention is {asked}") as error:
        choose_attention(asked, GPU, dtype)
    assert error.value.hint


def test_a_cpu_has_padded_attention_and_no_other_but_for_tests() -> None:
    assert choose_attention("auto", CPU, torch.float32) == "padded"
    with pytest.raises(SpecError, match="on cpu"):
        choose_attention("efficient", CPU, torch.float32)


def test_fused_kernels_are_for_gpus_and_are_never_a_silent_wish() -> None:
    assert choose_kernels("auto", CPU, torch.float32, 512) == "torch"
    assert choose_kernels("torch", GPU, torch.float16, 512) == "torch"
    with pytest.raises(SpecError, match=r"training.kernels is fused: .*not for cpu") as error:
        choose_kernels("fused", CPU, torch.float32, 512)
    assert error.value.hint


def test_a_card_for_which_they_do_not_compile_trains_with_torchs_operators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_ops.launch, "why_not", lambda *what: "NVRTC for sm_70: no such thing")
    block_ops.why_not_fused.cache_clear()
    try:
        assert choose_kernels("auto", GPU, torch.float16, 512) == "torch"
        with pytest.raises(SpecError, match="sm_70"):
            choose_kernels("fused", GPU, torch.float16, 512)
    finally:
        block_ops.why_not_fused.cache_clear()


@pytest.mark.parametrize(
    ("asked", "capability", "kernels", "expected"),
    [
        (False, (9, 0), "torch", False),
        (True, (7, 0), "fused", True),
        (True, None, "torch", True),
        ("auto", (9, 0), "fused", False),
        ("auto", (9, 0), "torch", True),
        ("auto", (8, 0), "torch", True),
        ("auto", (7, 5), "torch", False),
        ("auto", (7, 0), "fused", False),
        ("auto", None, "torch", False),
    ],
)
def test_auto_compiles_where_triton_supports_the_card_and_fused_kernels_cannot_be_had(
    asked: bool | str, capability: tuple[int, int] | None, kernels: str, expected: bool
) -> None:
    assert compiles(asked, capability, kernels) is expected


def times_of(lengths: list[int], offset: float, part: tuple[int, int] = (0, 1)) -> torch.Tensor:
    """As numbers in [0, 1)."""
    borders = torch.tensor([0, *lengths]).cumsum(0).int()
    batch = DeviceBatch(0, torch.zeros(sum(lengths), dtype=torch.int64), borders, max(lengths))
    return (_times(batch, part, offset) - T_MIN) / (1 - T_MIN)


@pytest.mark.parametrize("offset", [0.0, 0.4, 1.7])
def test_the_few_longest_sequences_cover_the_times_like_all_of_them(offset: float) -> None:
    # 1 to 100, each once, and in such an order that times dealt out by place would all go large with length.
    lengths = (lattice(torch.arange(100)).argsort().argsort() + 1).tolist()
    times = times_of(lengths, offset)
    by_length = times[torch.tensor(lengths).argsort(descending=True)]
    for few in (8, 20, 50, 100):
        gaps = torch.cat([by_length[:few].sort().values, torch.ones(1)]).diff(prepend=torch.zeros(1))
        assert gaps.max() < 2.7 / few


@pytest.mark.parametrize("parts", [2, 4, 34, 55, 64])
def test_the_parts_of_a_step_cover_the_times_together(parts: int) -> None:
    lengths = [40, 30, 20, 10, 10]
    times = torch.cat([times_of(lengths, 0.2, (number, parts)) for number in range(parts)])
    gaps = torch.cat([times.sort().values, torch.ones(1)]).diff(prepend=torch.zeros(1))
    assert gaps.max() < 2.7 / len(times)


def test_no_sequence_prefers_small_times() -> None:
    drawn = torch.stack([times_of([30, 10, 20, 20], offset) for offset in torch.linspace(0, 2, 401).tolist()])
    assert (drawn.mean(0) - 0.5).abs().max() < 0.01
    assert torch.equal(times_of([30, 10, 20, 20], 0.3), times_of([30, 10, 20, 20], 0.3))
