"""A choice of shape in words, as a table of 80 columns, and as JSON."""

from typing import Any

from rich import box
from rich.table import Table

from sedd.soonest.choose import Choice
from sedd.soonest.forecast import Forecast
from sedd.units import format_count, format_duration


def choice_table(choice: Choice) -> Table:
    """Every shape that was looked at, by GPUs and time limit; the picked one is marked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    table.add_column("GPUs")
    for name in ("limit", "starts in", "trains", "jobs", "ends in", "GPU hours", "busy"):
        table.add_column(name, justify="right")
    for each in choice.forecasts:
        is_picked = each is choice.picked
        row = [">" if is_picked else "", str(each.shape.layout), format_duration(each.shape.walltime_s)]
        if each.refusal is not None:
            table.add_row(*row, "refused", style="dim")
            continue
        row += [_short(each.wait_s), _short(each.training_s), str(each.attempts), _short(each.ends_s)]
        row += [_hours(each.gpu_s / 3600), f"{each.efficiency:.0%}"]
        table.add_row(*row, style="bold" if is_picked else None)
    return table


def choice_lines(choice: Choice) -> list[str]:
    """What was chosen, and why."""
    picked, fixed, speed = choice.picked, choice.fixed, choice.speed
    lines = [f"Chosen: {picked.shape}: ends in {_short(picked.ends_s)}{_jobs(picked)}."]
    if fixed is not picked:
        instead = (
            f"SLURM refuses it: {fixed.refusal}"
            if fixed.refusal is not None
            else f"starts {_when(fixed.wait_s)}, ends in {_short(fixed.ends_s)}{_jobs(fixed)}"
        )
        lines.append(f"Without a choice it would be {fixed.shape}: {instead}.")
    lines += [f"Left out: {each}." for each in choice.left_out]
    for reason in dict.fromkeys(each.refusal for each in choice.forecasts if each.refusal):
        lines.append(f"Refused: {reason}.")
    lines.append(f"Speed: {format_count(1 / speed.residue_s)} residues/s on one GPU, {speed.source}.")
    return lines


def choice_document(choice: Choice) -> dict[str, Any]:
    """For `--json`; null for what is not foreseen."""
    return {
        "picked": _document(choice.picked),
        "fixed": _document(choice.fixed),
        "shapes": [_document(each) for each in choice.forecasts],
        "left_out": list(choice.left_out),
        "speed": {"residues_per_s_per_gpu": 1 / choice.speed.residue_s, "source": choice.speed.source},
    }


def _document(each: Forecast) -> dict[str, Any]:
    layout = each.shape.layout
    shape = {
        "nodes": layout.nodes,
        "gpus_per_node": layout.gpus_per_node,
        "walltime_s": each.shape.walltime_s,
        "refusal": each.refusal,
    }
    foreseen = {
        "starts_in_s": each.wait_s,
        "training_s": each.training_s,
        "jobs": each.attempts,
        "ends_in_s": each.ends_s,
        "gpu_hours": each.gpu_s / 3600,
        "efficiency": each.efficiency,
    }
    return shape | {key: None if each.refusal is not None else round(x, 4) for key, x in foreseen.items()}


def _jobs(each: Forecast) -> str:
    return f" after {each.attempts} jobs" if each.attempts > 1 else ""


def _when(seconds: float) -> str:
    return "now" if seconds < 1 else f"in {format_duration(seconds)}"


def _hours(hours: float) -> str:
    """`0.123`, `12.3`, `1,234`: three digits or more."""
    return f"{hours:.3g}" if hours < 999.5 else f"{hours:,.0f}"


def _short(seconds: float) -> str:
    return "now" if seconds < 1 else format_duration(seconds)
