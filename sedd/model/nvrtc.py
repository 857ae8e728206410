"""Compile CUDA C at run time for the card at hand, with the NVRTC that CUDA builds of torch bring.

Triton's own support begins at compute capability 8.0; NVRTC of CUDA 12 compiles for a V100 (7.0).
"""

import contextlib
import ctypes
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

Argument = (
    ctypes.c_void_p | ctypes.c_int | ctypes.c_uint32 | ctypes.c_uint64 | ctypes.c_float | ctypes.Structure
)
"""Of a kernel, as C has it."""

_SHARED_WITHOUT_ASKING = 48 * 1024
_MOST_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""


class KernelError(RuntimeError):
    """The kernels cannot be compiled or started here."""


class Module:
    """Compiled kernels, machine code or PTX, loaded on one device."""

    def __init__(self, code: bytes, device: torch.device) -> None:
        self._driver = _driver()
        self._device = device
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        self._context = ctypes.c_void_p()
        index = device.index if device.index is not None else torch.cuda.current_device()
        _require(
            self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), index),
            f"the context of {device}",
        )
        before = self._make_context_current()
        done = self._driver.cuModuleLoadData(ctypes.byref(self._module), code)
        self._make_current_again(before)
        _require(done, "cuModuleLoadData")

    def launch(
        self, name: str, grid: tuple[int, int], threads: int, *arguments: Argument, shared: int = 0
    ) -> None:
        """Start a kernel on the device's current stream. Pointers are c_void_p; what they point to must live on.

        `shared`: bytes of shared memory for each block, in addition to what the kernel declares.
        """
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream(self._device).cuda_stream)
        before = self._make_context_current()
        done = self._driver.cuLaunchKernel(
            self._function(name, shared), *grid, 1, threads, 1, 1, shared, stream, pointers, None
        )
        self._make_current_again(before)
        _require(done, f"launching {name}")

    def _function(self, name: str, shared: int) -> ctypes.c_void_p:
        if name not in self._functions:
            found = ctypes.c_void_p()
            done = self._driver.cuModuleGetFunction(ctypes.byref(found), self._module, name.encode())
            _require(done, f"cuModuleGetFunction {name}")
            if shared > _SHARED_WITHOUT_ASKING:
                done = self._driver.cuFuncSetAttribute(found, _MOST_SHARED, shared)
                _require(done, f"{shared} bytes of shared memory for {name}")
            self._functions[name] = found
        return self._functions[name]

    def _make_context_current(self) -> ctypes.c_void_p:
        """Make the device's context this thread's; returns the one that was.

        That may be another card's: where nobody chose, a thread's current device is 0, whatever its tensors are on.
        """
        before = ctypes.c_void_p()
        _require(self._driver.cuCtxGetCurrent(ctypes.byref(before)), "cuCtxGetCurrent")
        if before.value != self._context.value:
            _require(self._driver.cuCtxSetCurrent(self._context), "cuCtxSetCurrent")
        return before

    def _make_current_again(self, before: ctypes.c_void_p) -> None:
        # A thread of autograd's may not have called CUDA yet: it had no context, and keeps this one.
        if before.value and before.value != self._context.value:
            _require(self._driver.cuCtxSetCurrent(before), "cuCtxSetCurrent")


def compile_cubin(source: str, capability: tuple[int, int], defines: Mapping[str, int]) -> bytes:
    """Machine code of a CUDA C source for a compute capability. Needs no GPU.

    Raises:
        KernelError: there is no NVRTC, or it refuses the source or the capability; the message holds its log.
    """
    return _compile(source, capability, defines, "sm", "CUBIN")


def compile_ptx(source: str, capability: tuple[int, int], defines: Mapping[str, int]) -> bytes:
    """PTX in the instructions of a compute capability, which the driver of any newer card runs. Else as above."""
    return _compile(source, capability, defines, "compute", "PTX")


def _compile(
    source: str, capability: tuple[int, int], defines: Mapping[str, int], family: str, product: str
) -> bytes:
    nvrtc, program = _nvrtc(before_turing=capability < (7, 5)), ctypes.c_void_p()
    _require(
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels", 0, None, None),
        "NVRTC",
    )
    options = [f"--gpu-architecture={family}_{capability[0]}{capability[1]}", "--std=c++17"]
    options += [f"-D{name}={value}" for name, value in defines.items()]
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    try:
        with _locale_kept():
            refused = nvrtc.nvrtcCompileProgram(program, len(options), words)
        if refused:
            raise KernelError(f"NVRTC for sm_{capability[0]}{capability[1]}: {_text(nvrtc, program)}")
        size = ctypes.c_size_t()
        _require(nvrtc[f"nvrtcGet{product}Size"](program, ctypes.byref(size)), f"nvrtcGet{product}Size")
        code = ctypes.create_string_buffer(size.value)
        _require(nvrtc[f"nvrtcGet{product}"](program, code), f"nvrtcGet{product}")
        return code.raw
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@contextlib.contextmanager
def _locale_kept() -> Iterator[None]:
    """NVRTC 12.4 leaves its thread in the locale C, where Python takes text files for ASCII."""
    use = ctypes.CDLL(None).uselocale
    use.restype, use.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = use(None)
    try:
        yield
    finally:
        use(before)


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(max(1, size.value))
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.value.decode(errors="replace").strip() or "it cannot compile for this card"


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        raise KernelError(f"no CUDA driver: {e}") from e


@functools.cache
def _nvrtc(*, before_turing: bool) -> ctypes.CDLL:
    """The library of torch's own CUDA version where torch has one, else any that is installed.

    CUDA 13 has dropped the cards before Turing (7.5): for them, 12 at most.
    """
    major = torch.version.cuda.split(".")[0] if torch.version.cuda else None
    if before_turing and int(major or 13) > 12:
        major = "12"
    names = [f"libnvrtc.so.{major}"] if major else []
    for place in [*names, *_installed(f"libnvrtc.so.{major or '*'}")]:
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    raise KernelError(
        "no NVRTC: nvidia-cuda-nvrtc, which a CUDA build of torch brings along, is not installed"
    )


def _installed(pattern: str) -> list[str]:
    """Libraries in the wheels of NVIDIA's that torch depends on, the newest first."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted((str(p) for f in folders or () for p in Path(f).glob(f"*/lib/{pattern}")), reverse=True)


def _require(code: int, what: str) -> None:
    if code:
        raise KernelError(f"{what}: CUDA error {code}")
