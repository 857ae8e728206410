"""Keep freed main memory, for training on a CPU."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of handing them back to the kernel and faulting them in again each step.

    A third of a small network's step on a virtual machine went into page faults. Elsewhere than on glibc: nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 * 2**20)
