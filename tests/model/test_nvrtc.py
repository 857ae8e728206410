"""The fused kernels compile for the cards that people have, on a machine without any."""

import ctypes
import functools
import locale
import re
from typing import Any

import pytest
import torch

from sedd.model.fused import launch
from sedd.model.fused.tiled_attention import attention_definitions, attention_source
from sedd.model.nvrtc import KernelError, Module, compile_cubin
from sedd.model.tiled_sizes import HEAD_DIMS

ELF = b"\x7fELF"


def told(which: str, hidden: int = 512, dtype: torch.dtype = torch.float16) -> launch.Definitions:
    return {
        "block": launch.block_definitions(hidden, dtype, dtype),
        "optimizer": launch.OPTIMIZER,
        "attention": attention_definitions(64),
        "wide attention": attention_definitions(128),
    }[which]


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("enters", list(launch.FORMATS))
@pytest.mark.parametrize("leaves", list(launch.FORMATS))
def test_a_blocks_kernels_compile_to_machine_code(capability, enters, leaves):
    told = launch.block_definitions(768, enters, leaves)
    assert launch.compiled(capability, "block", told).startswith(ELF)


@pytest.mark.parametrize("which", launch.SOURCES)
def test_they_compile_to_the_instructions_of_a_volta_for_newer_cards(which):
    ptx = launch.compiled_ptx((7, 0), which, told(which)).decode()
    assert ".target sm_70" in ptx
    kernels = re.findall(
        r"^extern \"C\" __global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(",
        launch.source(which),
        re.MULTILINE,
    )
    assert kernels
    assert set(re.findall(r"\.entry (\w+)\(", ptx)) == set(kernels)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_attention_compiles_to_machine_code(capability, head_dim):
    told = attention_definitions(head_dim)
    assert launch.compiled(capability, attention_source(head_dim), told).startswith(ELF)


def test_a_block_of_the_widest_rows_fits_a_volta():
    assert launch.compiled((7, 0), "block", told("block", 4096)).startswith(ELF)


def test_what_the_compiler_refuses_is_told_with_its_reason():
    compiling = functools.partial(compile_cubin, capability=(7, 0), defines={})
    with pytest.raises(KernelError, match="nonsense"):
        compiling('extern "C" __global__ void kernel() { nonsense; }')
    with pytest.raises(KernelError, match="sm_10"):
        compile_cubin("", (1, 0), {})


@pytest.mark.parametrize("source", ["", "nonsense"])
def test_text_files_are_read_as_before_a_kernel_was_compiled(monkeypatch, source):
    """Though the compiler ends as that of CUDA 12.4 does: in the locale C, for this thread."""
    import sedd.model.nvrtc as nvrtc

    library, c_library = nvrtc._nvrtc(before_turing=True), ctypes.CDLL(None)
    compile_program = library.nvrtcCompileProgram
    c_library.newlocale.restype = ctypes.c_void_p
    c_library.uselocale.argtypes = [ctypes.c_void_p]

    def compile_and_set_the_locale(*arguments):
        all_categories = 0x1FBF  # LC_ALL_MASK of glibc
        c_library.uselocale(c_library.newlocale(all_categories, b"C", None))
        assert locale.getencoding() != "UTF-8"
        return compile_program(*arguments)

    monkeypatch.setattr(library, "nvrtcCompileProgram", compile_and_set_the_locale)
    before = locale.getencoding()
    try:
        compile_cubin(source, (7, 0), {})
    except KernelError:
        assert source == "nonsense"
    assert locale.getencoding() == before


def test_a_machine_without_nvrtc_gets_a_line_and_no_traceback(monkeypatch):
    import sedd.model.nvrtc as nvrtc

    nvrtc._nvrtc.cache_clear()
    monkeypatch.setattr(
        nvrtc.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(f"{name}: not found"))
    )
    try:
        with pytest.raises(KernelError, match="no NVRTC"):
            compile_cubin("", (7, 0), {})
    finally:
        nvrtc._nvrtc.cache_clear()


class TwoCards:
    """Stands in for libcuda, with one thread: notes in which card's context what is done."""

    def __init__(self, current: int | None) -> None:
        self.current = current
        self.done: list[tuple[str, int | None]] = []

    def cuDevicePrimaryCtxRetain(self, context: Any, index: int) -> int:  # noqa: N802 - CUDA's name
        context._obj.value = 1 + index  # a context is an address, and never null
        return 0

    def cuCtxGetCurrent(self, context: Any) -> int:  # noqa: N802 - CUDA's name
        context._obj.value = None if self.current is None else 1 + self.current
        return 0

    def cuCtxSetCurrent(self, context: ctypes.c_void_p) -> int:  # noqa: N802 - CUDA's name
        self.current = None if context.value is None else context.value - 1
        return 0

    def cuModuleLoadData(self, module: Any, code: bytes) -> int:  # noqa: N802 - CUDA's name
        self.done.append(("load", self.current))
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:  # noqa: N802 - CUDA's name
        self.done.append(("find", self.current))
        return 0

    def cuFuncSetAttribute(self, function: Any, attribute: int, value: int) -> int:  # noqa: N802 - CUDA's name
        self.done.append((f"allow {value}", self.current))
        return 0

    def cuLaunchKernel(self, *how: Any) -> int:  # noqa: N802 - CUDA's name
        self.done.append(("launch", self.current))
        return 0


@pytest.mark.parametrize("current", [0, 1, None])
def test_kernels_run_in_the_context_of_their_tensors_card_whichever_is_the_threads(monkeypatch, current):
    """CUDA itself starts a kernel in the thread's context: with card 0's, on card 0, for tensors of card 1."""
    import sedd.model.nvrtc as nvrtc

    driver = TwoCards(current)
    monkeypatch.setattr(nvrtc, "_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: type("Stream", (), {"cuda_stream": 0}))
    module = Module(b"", torch.device("cuda", 1))
    module.launch("kernel", (1, 1), 32)
    assert driver.done == [("load", 1), ("find", 1), ("launch", 1)]
    assert driver.current == (1 if current is None else current), "it is the thread's own again"


def test_a_kernel_is_allowed_more_shared_memory_than_blocks_have_of_themselves(monkeypatch):
    import sedd.model.nvrtc as nvrtc

    driver = TwoCards(0)
    monkeypatch.setattr(nvrtc, "_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: type("Stream", (), {"cuda_stream": 0}))
    module = Module(b"", torch.device("cuda", 0))
    for _ in range(2):
        module.launch("hungry", (1, 1), 32, shared=96 * 1024)
        module.launch("modest", (1, 1), 32, shared=1024)
    done = [what for what, _ in driver.done]
    assert done == ["load", "find", "allow 98304", "launch", "find", "launch", "launch", "launch"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it takes two GPUs")
def test_a_kernel_for_the_second_card_runs_there_though_the_first_is_current():
    from sedd.model.fused.gelu_mlp import gelu_mlp

    torch.cuda.set_device(0)
    torch.zeros(1, device="cuda:0")  # its context is there, and current
    results = []
    for index in range(2):
        device = torch.device("cuda", index)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(64, 64, generator=generator).to(device, torch.float16)
        up, down = torch.nn.Linear(64, 256), torch.nn.Linear(256, 64)
        for layer in (up, down):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / 16
            layer.bias.data.zero_()
        results.append(gelu_mlp(x, up.to(device), down.to(device)).detach().cpu())
        torch.cuda.synchronize(device)
    assert torch.equal(*results)
    assert torch.cuda.current_device() == 0
