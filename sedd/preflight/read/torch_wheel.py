"""Read version, CUDA and compiled architectures of the installed torch from its files, without importing it."""

import importlib.util
import mmap
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

V100_REQUIREMENT = "torch>=2.6,<2.11"
"""The plain package index's wheels that hold sm_70 kernels."""

# Type names in SLURM's Gres and marketing names, to compute capability. Searched in order within the name.
_CAPABILITIES = (
    (r"v100|volta|titan[ _-]?v\b", (7, 0)),
    (r"p100", (6, 0)),
    (r"p40|p4\b|1080", (6, 1)),
    (r"t4|rtx[ _-]?(?:quadro[ _-]?)?[568]000\b|2080|turing|titan[ _-]?rtx", (7, 5)),
    (r"a100|a30\b|a800", (8, 0)),
    (r"a10|a16|a40|a2\b|a[456]000|3090|3080", (8, 6)),
    (r"l40|l4\b|4090|ada", (8, 9)),
    (r"h100|h200|h800|h20\b|gh200|hopper", (9, 0)),
    (r"gb200|b200|b100", (10, 0)),
    (r"5090|blackwell", (12, 0)),
)
_ARCH_LIST = re.compile(rb"(?:(?:sm|compute)_\d+[af]?)(?: (?:sm|compute)_\d+[af]?)*\0")
_VERSION_LINE = re.compile(r"^(__version__|cuda|hip)\b[^=]*=\s*(?:'([^']*)'|None)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """An installed torch.

    Attributes:
        version: `2.10.0+cu128`.
        cuda: `12.8`; None for a build without CUDA.
        archs: `("sm_70", "sm_75", …)`, what `torch.cuda.get_arch_list()` would say; None when not found.
    """

    version: str
    cuda: str | None
    archs: tuple[str, ...] | None
    hip: str | None = None


def query_wheel() -> Wheel | None:
    """The torch that `import torch` would find; None when there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    return read_wheel(Path(spec.origin).parent)


def read_wheel(folder: Path) -> Wheel:
    """The torch in a package folder. Raises: OSError."""
    fields = {
        match[1]: match[2]
        for match in _VERSION_LINE.finditer((folder / "version.py").read_text(encoding="utf-8"))
    }
    cuda = fields.get("cuda")
    archs = read_archs(folder / "lib" / "libtorch_python.so") if cuda else ()
    return Wheel(version=fields.get("__version__") or "?", cuda=cuda, hip=fields.get("hip"), archs=archs)


def read_archs(library: Path) -> tuple[str, ...] | None:
    """The architecture list that torch's build wrote into its Python library; None when it is not found.

    It is one C string, `sm_70 sm_75 …`: a search of 40 MB, some hundredths of a second.
    """
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(b"\0sm_")
            while start >= 0:
                if match := _ARCH_LIST.match(content, start + 1):
                    return tuple(match[0].rstrip(b"\0").decode().split())
                start = content.find(b"\0sm_", start + 1)
    except (OSError, ValueError):  # ValueError: an empty file cannot be mapped
        return None
    return None


def covers(archs: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Whether kernels compiled for `archs` run on a card: same major and no later minor, or older PTX."""
    for arch in archs:
        kind, _, digits = arch.partition("_")
        number = digits.rstrip("af")
        compiled = (int(number[:-1]), int(number[-1]))
        same_family = compiled[0] == capability[0] and compiled[1] <= capability[1]
        exact = compiled == capability
        if exact or (same_family and number == digits) or (kind == "compute" and compiled <= capability):
            return True
    return False


def capability_of(gpu_type: str) -> tuple[int, int] | None:
    """Compute capability of a card by its name, `v100` or `Tesla V100-SXM2-16GB`; None for a name not known."""
    name = gpu_type.lower()
    return next(
        (found for pattern, found in _CAPABILITIES if re.search(rf"(?<![a-z0-9])(?:{pattern})", name)), None
    )


def install_command(capability: tuple[int, int] | None) -> str:
    """The command that installs a torch with kernels for the card into this Python."""
    wanted = V100_REQUIREMENT if capability and capability < (7, 5) else "torch>=2.6,<2.14"
    return shlex.join([sys.executable, "-m", "pip", "install", "--force-reinstall", wanted])
