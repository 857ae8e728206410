"""A chapter of the benchmarks of several ranks: the benchmark's own script, once for each rank."""

import os
import subprocess
import sys


def start_ranks(ranks: int, *further: str) -> None:
    """Run this script with its arguments and `further` ones as every rank, to the end; exit code 1 if one fails."""
    port = str(20000 + os.getpid() % 20000 + ranks)
    shared = os.environ | {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, *sys.argv, *further]
    processes = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    if any(process.wait() for process in processes):
        sys.exit(1)
