"""The fused kernels compiled for the CPU, in the place of those that NVRTC compiles for a GPU."""

import contextlib
import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sedd.model.fused import launch
from sedd.model.nvrtc import Argument, KernelError, Module, compile_ptx

HERE = Path(__file__).parent
CPU = "cpu"
MARKS = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
GPU, AS_VOLTA = pytest.param("cuda", marks=MARKS), pytest.param("instructions of sm_70", marks=MARKS)
DEVICES = [CPU, GPU, AS_VOLTA]


class CpuModule(Module):
    """Takes the launches of `sedd.model.nvrtc.Module`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, name: str, grid: tuple[int, int], threads: int, *arguments: Argument, shared: int = 0
    ) -> None:
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        assert self._library.launch_by_name(name.encode(), *grid, threads, shared, pointers) == 0, name


@functools.cache
def cpu_module(which: str, definitions: launch.Definitions) -> CpuModule:
    """Compiled with g++; skips the test where there is none."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++: apt-get install g++")
    folder = Path(tempfile.mkdtemp(prefix="sedd-kernels-"))
    kernels = folder / "kernels.cu"
    text = launch.source(which)
    kernels.write_text(text)
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(', text)
    (folder / "by_name.h").write_text("".join(f"KERNEL({name})\n" for name in names))
    command = [
        compiler,
        "-std=c++20",
        "-O1",
        "-U_FORTIFY_SOURCE",
        "-shared",
        "-fPIC",
        "-x",
        "c++",
        f"-I{folder}",
    ]
    command += [f"-D{name}={value}" for name, value in definitions] + [f'-DKERNELS="{kernels}"']
    subprocess.run([*command, str(HERE / "cuda_on_cpu.h"), "-o", str(folder / "kernels.so")], check=True)
    module = CpuModule(folder / "kernels.so")
    shutil.rmtree(folder)
    return module


@contextlib.contextmanager
def kernels_on(where: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernels on one of DEVICES, and tensors made there. Skips where that cannot be."""
    device = CPU if where == CPU else "cuda"
    if where == CPU:
        monkeypatch.setattr(launch, "module", lambda device, *what: cpu_module(*what))
    elif where != "cuda":
        run_as_volta()
    torch.set_default_device(device)
    try:
        yield device
    finally:
        torch.set_default_device(None)
        if where not in (CPU, "cuda"):
            launch.use_instructions_of(None)


def run_as_volta() -> None:
    """Skips where no compiler for a V100 is installed: that of CUDA 13 has dropped it."""
    try:
        compile_ptx("", (7, 0), {})
    except KernelError as e:
        pytest.skip(str(e))
    launch.use_instructions_of((7, 0))
