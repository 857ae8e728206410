"""The training benchmark measures what it says, here at a toy size on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench_training import require_legal_kernels

SCRIPT = Path(__file__).parents[2] / "tools/bench_training.py"
TOY = ("--device=cpu", "--models=tiny", "--crops=64", "--residues=512", "--seconds=0.1")


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *TOY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def test_every_arm_is_measured_and_what_cannot_run_is_said(tmp_path: Path) -> None:
    report, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    done = bench("--json", report, "--picture", picture)
    assert done.returncode == 0, done.stderr
    told = json.loads(report.read_text())
    assert [row["arm"] for row in told["steps"]] == ["padded batch", "loop"]
    assert all(row["residues_per_s"] > 0 and 0 < row["matmul_share"] < 1 for row in told["steps"])
    for arm in ("efficient", "flash", "efficient unfused"):
        assert f"{arm:<18} does not run in fp32 on cpu" in done.stdout
    assert picture.read_text().count("<rect") == 1 + len(told["steps"])


@pytest.mark.parametrize("asked", ["--arms=fast", "--models=fast"])
def test_what_there_is_not_is_refused(asked: str) -> None:
    done = bench(asked)
    assert done.returncode == 2
    assert "unknown: fast" in done.stderr


def test_several_processes_share_one_measurement(tmp_path: Path) -> None:
    done = bench("--arms=", "--gpus=1,2", "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    one, two = json.loads((tmp_path / "bench.json").read_text())["scaling"]
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert one["residues_per_s"] > 0
    assert two["speedup"] == pytest.approx(two["residues_per_s"] / one["residues_per_s"])


def test_training_itself_is_timed_from_line_to_line(tmp_path: Path) -> None:
    done = bench("--arms=padded batch", "--end-to-end", "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    whole, (bare,) = report["end_to_end"], report["steps"]
    assert whole["steps"] >= 10
    assert whole["residues_per_s"] > 0
    assert whole["share_of_bare_step"] == pytest.approx(whole["residues_per_s"] / bare["residues_per_s"])


LEGAL = {"cutlass_70_tensorop_f16_s884gemm", "fmha_cutlassF_f16_aligned_64x64_rf_sm70", "turn_norm<half>"}


@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        ("void pytorch_flash::flash_fwd_kernel<...>", "flash attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "cuDNN attention"),
        ("nvjet_bf16_128x256", "bfloat16"),
        ("sm80_xmma_gemm_f32f32_tf32f32", "TF32"),
        ("triton_tem_fused_mm_3", "a Triton matrix product"),
    ],
)
def test_a_kernel_that_a_v100_lacks_ends_the_benchmark(kernel: str, what: str) -> None:
    require_legal_kernels(LEGAL, "efficient")
    with pytest.raises(SystemExit, match=f"'efficient' launches {what}"):
        require_legal_kernels(LEGAL | {kernel}, "efficient")


def test_a_profiler_that_saw_nothing_proves_nothing() -> None:
    with pytest.raises(SystemExit, match="nothing is proved"):
        require_legal_kernels(set(), "efficient")
