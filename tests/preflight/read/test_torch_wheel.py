"""Reading a torch without importing it."""

import pytest

from sedd.preflight.read.torch_wheel import capability_of, covers, query_wheel, read_archs, read_wheel


def test_archs_are_read_off_the_library(tmp_path):
    library = tmp_path / "lib.so"
    library.write_bytes(b"\x7fELF\0sm_count\0x\0sm_70 sm_75 sm_90a compute_90\0tail")
    assert read_archs(library) == ("sm_70", "sm_75", "sm_90a", "compute_90")


@pytest.mark.parametrize("content", [b"", b"no list here", b"\0sm_70 cut"])
def test_library_without_a_list_gives_none(tmp_path, content):
    (tmp_path / "lib.so").write_bytes(content)
    assert read_archs(tmp_path / "lib.so") is None
    assert read_archs(tmp_path / "absent.so") is None


@pytest.mark.parametrize(
    ("lines", "cuda"),
    [
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "12.8"),
        ("cuda: str | None = None\n", None),
    ],
)
def test_version_file(tmp_path, lines, cuda):
    (tmp_path / "version.py").write_text(f"__version__ = '2.10.0+x'\ndebug = False\n{lines}")
    wheel = read_wheel(tmp_path)
    assert (wheel.version, wheel.cuda, wheel.hip) == ("2.10.0+x", cuda, None)


def test_what_is_read_is_what_torch_says():
    import torch

    wheel = query_wheel()
    assert wheel is not None
    assert wheel.version == str(torch.__version__)
    assert wheel.cuda == torch.version.cuda


@pytest.mark.parametrize(
    ("archs", "capability", "covered"),
    [
        (("sm_70",), (7, 0), True),
        (("sm_75", "sm_80"), (7, 0), False),  # never an older card
        (("sm_80",), (8, 6), True),  # a later minor version of the same family
        (("sm_86",), (8, 0), False),
        (("sm_80",), (9, 0), False),  # another family
        (("compute_60",), (7, 0), True),  # PTX is compiled by the driver
        (("sm_90a",), (9, 0), True),
        (("sm_100a",), (10, 3), False),  # `a`: that architecture alone
        (("sm_120",), (12, 0), True),
    ],
)
def test_covers(archs, capability, covered):
    assert covers(archs, capability) is covered


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("v100", (7, 0)),
        ("tesla_v100-sxm2-32gb", (7, 0)),
        ("V100S", (7, 0)),
        ("a100", (8, 0)),
        ("NVIDIA A10", (8, 6)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
        ("rtx6000", (7, 5)),
        ("gpu", None),
    ],
)
def test_capability_by_name(name, capability):
    assert capability_of(name) == capability
