"""Which attention kernel a network trains with, and whether it is compiled."""

import pytest
import torch

from sedd.diffusion.times import T_MIN
from sedd.errors import SpecError
from sedd.model import between
from sedd.training.feed import DeviceBatch
from sedd.training.network import _times, choose_attention, choose_kernels, compiles

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "asked", "dtype", "chosen"),
    [
        ((7, 0), "auto", torch.float16, "efficient"),
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
    assert choose_attention(asked, GPU, dtype) == chosen


@pytest.mark.parametrize(
    ("capability", "asked", "dtype"),
    [
        ((7, 0), "flash", torch.float16),
        ((7, 0), "efficient", torch.bfloat16),
        ((9, 0), "flash", torch.float32),
        ((9, 0), "efficient", torch.float64),
    ],
)
def test_a_kernel_that_the_card_lacks_is_refused_with_what_auto_takes(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], asked: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
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
    monkeypatch.setattr(between.fused, "why_not", lambda *what: "NVRTC for sm_70: no such thing")
    between.why_not_fused.cache_clear()
    try:
        assert choose_kernels("auto", GPU, torch.float16, 512) == "torch"
        with pytest.raises(SpecError, match="sm_70"):
            choose_kernels("fused", GPU, torch.float16, 512)
    finally:
        between.why_not_fused.cache_clear()


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


def test_times_are_one_of_each_stratum_and_no_place_in_the_batch_has_small_ones() -> None:
    borders = torch.arange(9, dtype=torch.int32) * 10
    batch = DeviceBatch(0, torch.zeros(80, dtype=torch.int64), borders, 10)
    drawn = torch.stack([_times(batch, 0.5, seed) for seed in range(400)])
    strata = ((drawn - T_MIN) / (1 - T_MIN) * 8).floor()
    assert (strata.sort(-1).values == torch.arange(8)).all()
    # Of 400 times, uniform on [0, 1], the mean strays by 0.014: four of that.
    assert (drawn.mean(0) - 0.5).abs().max() < 0.06
    assert torch.equal(drawn[3], _times(batch, 0.5, 3))
