"""Two networks on the same proteins and the same noise, and all that `sedd evaluate` reports."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sedd.diffusion.likelihood import Bound
from sedd.inference.evaluation import Evaluation, Proteins, evaluate, summary
from sedd.inference.keep import Keep, at_once
from sedd.inference.load_network import Trained
from sedd.inference.masked_cost import masked_costs
from sedd.spec.inference import EvaluateOptions
from sedd.units import counted


@dataclass(frozen=True, slots=True)
class Difference:
    """A network's nats per residue minus those of another: below 0 the first is better."""

    nats_per_residue: float
    standard_error: float
    """Of the Monte Carlo estimate; these proteins taken as given."""
    standard_error_over_proteins: float
    """What it would vary by with other proteins of the same kind."""


def difference(one: Bound, other: Bound) -> Difference:
    """The paired difference of two estimates of the same proteins by the same draws."""
    weight = (one.copies if one.copies is not None else torch.ones_like(one.residues)).double().cpu()
    each = (one.estimates - other.estimates).cpu()
    residues, nats = one.residues.double().cpu(), each.mean(0)
    total = (weight * residues).sum()
    mean = (weight * nats).sum() / total
    variance = each.var(0) / len(each)
    # The error of a ratio of two sums over proteins, to first order; copies are one protein, drawn together.
    scatter = ((weight * (nats - mean * residues)) ** 2).sum()
    count = len(weight)
    over_proteins = (scatter * count / (count - 1)).sqrt() / total if count > 1 else torch.tensor(torch.nan)
    return Difference(float(mean), float((weight**2 * variance).sum().sqrt() / total), float(over_proteins))


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one network, and of another where there is one."""

    result: Evaluation
    masked: dict[float, Bound]
    document: dict[str, Any]
    """All of it in numbers, for JSON."""

    def lines(self) -> list[str]:
        """The same for a reader."""
        bound, document = self.result.bound, self.document
        lines = [
            f"{counted(document['sequences'], 'protein')}, {counted(document['residues'], 'residue')}{self._given()}",
            f"at most {bound.nats_per_residue:.4f} ± {bound.standard_error:.4f} nats a residue "
            f"({bound.bits_per_residue:.4f} bits), perplexity {bound.perplexity:.2f}",
        ]
        lines += [
            f"{rate:.0%} hidden: {cost.nats_per_residue:.4f} ± {cost.standard_error:.4f} nats, "
            f"perplexity {cost.perplexity:.2f}"
            for rate, cost in self.masked.items()
        ]
        if against := document.get("against"):
            bare = ", without the condition" if self._given() else ""
            lines.append(f"difference from {against['run']}, step {against['step']}{bare} (below 0: better):")
            named = {"bound": against["bound"]} | {
                f"{row['rate']:.0%} hidden": row["difference"] for row in against["masked"]
            }
            lines += [
                f"  {name}: {found['nats_per_residue']:+.4f} ± {found['standard_error']:.4f} nats"
                + _over_proteins(found["standard_error_over_proteins"])
                for name, found in named.items()
            ]
        return lines

    def _given(self) -> str:
        """The condition under which the network is asked; the other network never is."""
        condition = self.document.get("condition", {})
        return "".join(f", {name}={value}" for name, value in condition.items()).replace(", ", ", given ", 1)


def report(
    trained: Trained,
    proteins: Proteins,
    how: EvaluateOptions,
    *,
    against: Trained | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    keep: Keep = at_once,
) -> Report:
    """Bound and masked costs of a network, and how they differ from another's; `progress` counts proteins."""
    networks = [trained, *([against] if against is not None else [])]
    rounds = len(networks) * (2 if how.mask_rates else 1)
    count, finished = len(proteins.names), 0

    def tell(done: int) -> None:
        progress((finished * count + done) // rounds, count)

    bounds, masked = [], []
    for place, network in enumerate(networks):
        found = evaluate(network, proteins, how=how, progress=tell, keep=keep, name=f"bound-{place}")
        bounds.append(found)
        finished += 1
        if how.mask_rates:
            costs = masked_costs(network, proteins, how, progress=tell, keep=keep, name=f"masked-{place}")
            masked.append(costs)
            finished += 1
    own = masked[0] if masked else {}
    document = summary(trained, how, bounds[0]) | {"masked": [_row(rate, cost) for rate, cost in own.items()]}
    if against is not None:
        document["against"] = {
            "run": against.run,
            "step": against.step,
            "bound": _numbers(difference(bounds[0].bound, bounds[1].bound)),
            "masked": [
                {"rate": rate, "difference": _numbers(difference(cost, masked[1][rate]))}
                for rate, cost in own.items()
            ],
        }
    return Report(bounds[0], own, document)


def _over_proteins(error: float | None) -> str:
    """In words; nothing of a single protein, whose differences have no scatter."""
    return "" if error is None else f" (over proteins ± {error:.4f})"


def _row(rate: float, cost: Bound) -> dict[str, Any]:
    return {
        "rate": rate,
        "hidden": cost.total_residues,
        "nats_per_residue": cost.nats_per_residue,
        "standard_error": cost.standard_error,
        "perplexity": cost.perplexity,
    }


def _numbers(found: Difference) -> dict[str, float | None]:
    return {name: None if math.isnan(number) else number for name, number in asdict(found).items()}
