"""The fused kernels compile for the cards that people have, on a machine without any."""

import ctypes
import functools
import locale

import pytest

from sedd.model import fused
from sedd.model.nvrtc import KernelError, compile_cubin

ELF = b"\x7fELF"


def told(hidden: int = 512) -> dict[str, int]:
    return fused.defines(hidden, fused.torch.float16, fused.torch.float16)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("enters", list(fused._FORMATS))
@pytest.mark.parametrize("leaves", list(fused._FORMATS))
def test_they_compile_to_machine_code(capability, enters, leaves):
    defines = fused.defines(768, enters, leaves)
    assert fused.compiled(capability, tuple(defines.items())).startswith(ELF)


def test_they_compile_to_the_instructions_of_a_volta_for_newer_cards():
    ptx = fused.compiled_ptx((7, 0), tuple(told().items())).decode()
    assert ".target sm_70" in ptx
    for kernel in (
        "gated_norm_forward",
        "gated_norm_backward",
        "sum_slots",
        "rotate",
        "gelu_forward",
        "gelu_backward",
    ):
        assert f".entry {kernel}(" in ptx


def test_a_block_of_the_widest_rows_fits_a_volta():
    assert fused.compiled((7, 0), tuple(told(4096).items())).startswith(ELF)


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
