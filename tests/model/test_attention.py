"""Every implementation of attention against softmax written out for one sequence at a time."""

import pytest
import torch

from sedd.model.attention import IMPLEMENTATIONS, attention, fastest, is_legal
from sedd.model.fused import tiled_attention

CASES = {
    "odd lengths": [7, 33, 129, 1, 64, 3],
    "length one": [1] * 9,
    "empty ones": [5, 0, 0, 17, 0],
    "one sequence": [257],
    "many short": [1 + i % 7 for i in range(300)],
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-2}


def runnable():
    """(implementation, device, dtype) that this machine has."""
    found = [
        (name, "cpu", dtype) for name in ("padded", "explicit") for dtype in (torch.float32, torch.float64)
    ]
    if torch.cuda.is_available():
        found += [("padded", "cuda", torch.float16), ("explicit", "cuda", torch.float32)]
        found += [("efficient", "cuda", dtype) for dtype in (torch.float32, torch.float16)]
        if torch.cuda.get_device_capability() >= (8, 0):
            found.append(("flash", "cuda", torch.float16))
    return found


def with_gradients(compute, inputs, weight):
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    output = compute(*inputs)
    output.backward(weight)
    return [output.detach(), *(t.grad for t in inputs)]


def one_by_one(lengths):
    def compute(q, k, v):
        parts = []
        for a, b, c in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            scores = torch.einsum("qhd,khd->hqk", a, b) / a.shape[-1] ** 0.5
            parts.append(torch.einsum("hqk,khd->qhd", scores.exp() / scores.exp().sum(-1, keepdim=True), c))
        return torch.cat(parts)

    return compute


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("implementation", "device", "dtype"), runnable())
def test_attention_is_softmax_within_each_sequence_forward_and_gradient(implementation, device, dtype, case):
    lengths = CASES[case]
    generator = torch.Generator().manual_seed(0)
    q, k, v, weight = (
        torch.randn(sum(lengths), 2, 16, dtype=torch.float64, generator=generator).to(dtype) for _ in range(4)
    )
    exact = with_gradients(one_by_one(lengths), [t.double() for t in (q, k, v)], weight.double())
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    given = with_gradients(
        lambda *qkv: attention(*qkv, cu_seqlens, max(lengths) + 5, implementation=implementation),
        [t.to(device) for t in (q, k, v)],
        weight.to(device),
    )
    for here, there in zip(given, exact, strict=True):
        assert here.dtype == dtype
        torch.testing.assert_close(
            here.double().cpu(), there, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], check_dtype=False
        )


@pytest.mark.parametrize(("reason", "chosen"), [(None, "tiled"), ("NVRTC for sm_70: no", "efficient")])
def test_where_our_own_kernels_cannot_be_compiled_efficient_takes_their_place(monkeypatch, reason, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(tiled_attention, "_why_not", lambda device, capability: reason)
    cuda = torch.device("cuda")
    assert fastest(cuda, torch.float16) == chosen
    assert is_legal("tiled", cuda, torch.float16) == (reason is None)
    assert not is_legal("tiled", cuda, torch.float32)


def test_processor_and_double_precision_take_the_padded_form():
    for device, dtype in [("cpu", torch.float32), ("cpu", torch.float16), ("cuda", torch.float64)]:
        assert fastest(torch.device(device), dtype) == "padded"


@pytest.mark.parametrize(("capability", "dtype", "expected"), [
    ((7, 0), torch.float16, "tiled"),
    ((7, 0), torch.bfloat16, "efficient"),
    ((7, 0), torch.float32, "efficient"),
    ((8, 0), torch.float32, "efficient"),
    ((8, 0), torch.bfloat16, "flash"),
    ((9, 0), torch.float16, "flash"),
])  # fmt: skip
def test_volta_never_gets_a_kernel_it_lacks(monkeypatch, capability, dtype, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(tiled_attention, "_why_not", lambda device, capability: None)
    assert fastest(torch.device("cuda"), dtype) == expected
    assert expected in IMPLEMENTATIONS
