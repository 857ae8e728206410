"""Number formats by capability: never bf16 on a V100."""

import pytest
import torch

from sedd.errors import SpecError
from sedd.training.precision import PRECISIONS, choose_precision

V100, T4, A100, H100 = (7, 0), (7, 5), (8, 0), (9, 0)


@pytest.mark.parametrize(
    ("capability", "name"), [(None, "fp32"), (V100, "fp16"), (T4, "fp16"), (A100, "bf16"), (H100, "bf16")]
)
def test_auto_follows_the_card(capability: tuple[int, int] | None, name: str) -> None:
    assert choose_precision("auto", capability).name == name


def test_fp16_scales_the_loss_and_the_others_do_not() -> None:
    assert {name for name, p in PRECISIONS.items() if p.scales_loss} == {"fp16"}


@pytest.mark.parametrize("capability", [V100, T4])
def test_bf16_below_8_0_is_refused_with_what_to_do(capability: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match=r"compute capability 7") as error:
        choose_precision("bf16", capability)
    assert error.value.hint
    assert "fp16" in error.value.hint


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(SpecError, match="no GPU"):
        choose_precision("fp16", None)


def test_autocast_computes_matrix_products_in_the_format() -> None:
    cpu = torch.device("cpu")
    a = torch.ones(4, 4)
    with PRECISIONS["bf16"].autocast(cpu):
        assert (a @ a).dtype is torch.bfloat16
    with PRECISIONS["fp32"].autocast(cpu):
        assert (a @ a).dtype is torch.float32
