"""Which errors are the node's and not the program's."""

import re

_NODE_FAULTS = re.compile(
    r"uncorrectable ECC|ECC error|GPU has fallen off the bus|device-side hardware|unspecified launch failure"
    r"|CUDA-capable device\(s\) is/are busy|no CUDA-capable device|CUDA driver initialization failed"
    r"|CUDA error: (unknown error|initialization error|system not yet initialized|hardware stack error)"
    r"|NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError|NVLink|Connection reset by peer",
    re.IGNORECASE,
)
"""Words of CUDA, NCCL and the driver. Not out-of-memory and not illegal memory access: those come back anywhere."""


class NodeFaultError(Exception):
    """This node cannot run the job; another may."""


def is_node_fault(error: BaseException) -> bool:
    """Whether another node would probably not show this error."""
    return isinstance(error, NodeFaultError) or bool(_NODE_FAULTS.search(str(error)))
