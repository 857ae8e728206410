"""What a run learned: its last validation bound beside the unigram entropy of the same data.

usage: python tools/learned.py RUN STORE
"""

import math
import sys
from pathlib import Path

from sedd.data.store import TokenStore
from sedd.errors import RunError, SeddError, UsageError
from sedd.rundir.find import find_run, runs_root
from sedd.training.metrics import read_metrics


def main(arguments: list[str]) -> int:
    """Print three lines, or the error's one; return the exit code."""
    try:
        if len(arguments) != 2:
            raise UsageError("expected a run and a store", hint="python tools/learned.py RUN STORE")
        print("\n".join(compare(*arguments)))
    except SeddError as e:
        print(f"error: {e.message}", *([f"hint: {e.hint}"] if e.hint else []), sep="\n", file=sys.stderr)
        return e.exit_code
    return 0


def compare(run_name: str, store: str) -> tuple[str, str, str]:
    """Unigram entropy, validation bound, and which is lower. Raises: SeddError if either is not to be had."""
    run = find_run(run_name, runs_root())
    bounds = [row["validation_bound"] for row in read_metrics(run.metrics) if "validation_bound" in row]
    if not bounds:
        raise RunError(f"run {run.name}/{run.id} has not been validated yet", hint=f"sedd status {run.id}")
    unigram = TokenStore.open(Path(store)).unigram_nats()
    gain = unigram - bounds[-1]
    verdict = (
        "below: it has learnt more than how often each amino acid occurs" if gain > 0 else "not below it yet"
    )
    return (
        f"unigram entropy     {unigram:.4f} nats a residue   perplexity {math.exp(unigram):.2f}",
        f"validation bound    {bounds[-1]:.4f} nats a residue   perplexity {math.exp(bounds[-1]):.2f}",
        f"difference          {-gain:+.4f} nats a residue   ({verdict})",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
