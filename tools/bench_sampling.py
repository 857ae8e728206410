"""How many calls of the network does the cached sampler of the absorbing graph save?

    python tools/bench_sampling.py --lengths 100 400 --proteins 1 10 --steps 128 1024 4096

The number depends on lengths and steps alone, not on the network: each residue appears in one step, and a step in which
none does needs no call. So it is counted here with a score that knows nothing, in seconds and without a GPU. Prints
JSON with --json.
"""

import argparse
import itertools
import json
import sys

import torch
from torch import Tensor

from sedd.diffusion.graph import Absorbing
from sedd.diffusion.noise import NOISES, Noise
from sedd.diffusion.sampler import sample
from sedd.spec.diffusion import DiffusionSpec
from sedd.training.network import build_objective


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 400], help="residues a protein")
    parser.add_argument("--proteins", type=int, nargs="+", default=[1, 10], help="drawn side by side")
    parser.add_argument("--steps", type=int, nargs="+", default=[128, 1024, 4096])
    parser.add_argument("--noise", choices=NOISES, default="loglinear")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        {"length": length, "proteins": proteins, "steps": steps, "plain": steps + 1}
        | {"cached": calls(length, proteins, steps, options.noise)}
        for length, proteins, steps in itertools.product(options.lengths, options.proteins, options.steps)
    ]
    if options.json:
        print(json.dumps({"noise": options.noise, "calls": rows}, indent=1))
        return 0
    print(f"{'residues':>9}{'proteins':>9}{'steps':>7}{'plain':>7}{'cached':>7}")
    for row in rows:
        print(
            f"{row['length']:>9}{row['proteins']:>9}{row['steps']:>7}{row['plain']:>7}{row['cached']:>7}"
            f"{1 - row['cached'] / row['plain']:>7.0%} saved"
        )
    return 0


def calls(length: int, proteins: int, steps: int, noise: str) -> int:
    """Calls of the network by the cached sampler."""
    count = 0

    def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.zeros(len(x), Absorbing().n)

    sample(
        log_score,
        [length] * proteins,
        graph=Absorbing(),
        noise=default_noise(noise),
        steps=steps,
        generator=torch.Generator().manual_seed(0),
        cached=True,
    )
    return count


def default_noise(kind: str) -> Noise:
    """The schedule as specs have it that name nothing but its kind."""
    return build_objective(DiffusionSpec.model_validate({"noise": {"kind": kind}})).noise


if __name__ == "__main__":
    sys.exit(main())
