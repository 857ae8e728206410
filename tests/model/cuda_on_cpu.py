"""The fused kernels compiled for the CPU, in the place of those that NVRTC compiles for a GPU."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from sedd.model import fused

HERE = Path(__file__).parent
KERNELS = Path(fused.__file__).with_name("kernels.cu")


class CpuModule:
    """Takes the launches of `sedd.model.nvrtc.Module`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(self, name: str, grid: tuple[int, int], threads: int, *arguments: ctypes._SimpleCData) -> None:
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        assert self._library.launch_by_name(name.encode(), *grid, threads, pointers) == 0, name


@functools.cache
def cpu_module(hidden: int, enters: torch.dtype, leaves: torch.dtype) -> CpuModule:
    """Compiled with g++; skips the test where there is none."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++: apt-get install g++")
    defines = {name: str(value) for name, value in fused.defines(hidden, enters, leaves).items()}
    folder = Path(tempfile.mkdtemp(prefix="sedd-kernels-"))
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "-x", "c++"]
    command += [f"-D{name}={value}" for name, value in defines.items()] + [f'-DKERNELS="{KERNELS}"']
    subprocess.run([*command, str(HERE / "cuda_on_cpu.h"), "-o", str(folder / "kernels.so")], check=True)
    module = CpuModule(folder / "kernels.so")
    shutil.rmtree(folder)
    return module


def use_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sedd.model.fused run on CPU tensors."""
    monkeypatch.setattr(fused, "_module", lambda device, *what: cpu_module(*what))
