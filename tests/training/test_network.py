"""Which attention kernel a network trains with, and whether it is compiled."""

import pytest
import torch

from sedd.errors import SpecError
from sedd.training.network import choose_attention, compiles

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


@pytest.mark.parametrize(
    ("asked", "capability", "expected"),
    [
        (False, (9, 0), False),
        (True, (7, 0), True),
        (True, None, True),
        ("auto", (9, 0), True),
        ("auto", (8, 0), True),
        ("auto", (7, 5), False),
        ("auto", (7, 0), False),
        ("auto", None, False),
    ],
)
def test_auto_compiles_where_triton_supports_the_card(
    asked: bool | str, capability: tuple[int, int] | None, expected: bool
) -> None:
    assert compiles(asked, capability) is expected
