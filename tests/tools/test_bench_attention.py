"""tools/bench_attention.py: what it measures kernels against, and a small measurement where there is a GPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sedd.data.batches import PackedBatch
from sedd.model.attention import explicit_attention
from tools.bench_attention import Layer, parse_heads, relative

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_attention.py"


def test_what_is_exact_goes_sequence_by_sequence_and_is_all_at_once_the_same():
    ends = np.array([0, 9, 16], dtype=np.int32)
    layer = Layer(PackedBatch(tokens=np.zeros(16, np.int64), cu_seqlens=ends, max_length=9), 2, 8, "cpu")
    given = [x.double().requires_grad_() for x in layer.given]
    output = explicit_attention(*given, layer.borders, 9)
    gradients = torch.autograd.grad(output, given, layer.d_output.double())
    for here, there in zip(layer.exact(), (output.detach(), *gradients), strict=True):
        assert relative(here, there) < 1e-12
    assert layer.product == 2 * (9 * 9 + 7 * 7) * 2 * 8


def test_heads_are_named_by_number_and_size():
    assert parse_heads("12x64") == (12, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_measures_each_arm_and_finds_it_right():
    command = [sys.executable, str(SCRIPT), "--residues", "4096", "--crops", "200", "--repeats", "3"]
    command += ["--arms", "efficient", "tiled", "--heads", "2x64", "2x128"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("µs") == 4
    assert "WRONG" not in done.stdout
