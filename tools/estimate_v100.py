"""Estimate what a V100 trains: residues a second for 24, 67 and 92 M parameters, and where the time goes.

Nobody measured these numbers: no V100 was at hand. Whoever has one compares: `python tools/bench_training.py
--v100-legal` prints the estimate beside its measurement there.

python tools/estimate_v100.py --kinds
"""

import argparse

from sedd.model.size import parameter_count
from sedd.soonest.v100 import TOKENS_A_PAIR, estimated_rates, kinds
from sedd.spec.model import ModelSpec
from sedd.units import format_count

MODELS = (
    ModelSpec(hidden=512, cond=256, blocks=6, heads=8),
    ModelSpec(hidden=768, cond=256, blocks=8, heads=12),
    ModelSpec(hidden=768, cond=128, blocks=12, heads=12),
    ModelSpec(hidden=768, cond=128, blocks=12, heads=6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--residues", type=int, default=32_768, help="a micro-batch")
    parser.add_argument("--kinds", action="store_true", help="also the milliseconds of each kind of kernel")
    options = parser.parse_args()
    print("ESTIMATE for a V100, never measured: 112 TFLOP/s, 800 GB/s, shares of an H200")
    print(f"{'parameters':>12} {'heads':>8} {'cut at':>7} {'residues/s':>20} {'ms a step':>12}")
    for model in MODELS:
        for crop, pair in TOKENS_A_PAIR.items():
            slow, fast = estimated_rates(model, options.residues, pair)
            times = f"{options.residues / fast * 1e3:.0f} to {options.residues / slow * 1e3:.0f}"
            rates = f"{slow:,.0f} to {fast:,.0f}"
            heads = f"{model.heads} x {model.hidden // model.heads}"
            print(f"{format_count(parameter_count(model)):>12} {heads:>8} {crop:>7} {rates:>20} {times:>12}")
            if options.kinds:
                for kind in kinds(model, options.residues, pair):
                    print(
                        f"{'':12} {kind.seconds(1) * 1e3:8.1f} to {kind.seconds(0) * 1e3:6.1f} ms  {kind.name}"
                    )


if __name__ == "__main__":
    main()
