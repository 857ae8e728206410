"""An assessment as one HTML page that needs nothing else: the numbers in a table, then the picture."""

from collections.abc import Callable
from html import escape
from statistics import median

from sedd.quality.assess import Assessment, Measures
from sedd.quality.neighbours import CANDIDATES, WORD
from sedd.quality.picture import picture

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1c2330; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid #d9dee7; font-weight: normal; }
th:first-child { text-align: left; }
thead th, .note { color: #667085; }
svg { width: 100%; height: auto; margin-top: 1.5rem; }
"""


def page(title: str, found: Assessment) -> str:
    """The whole page; `title` says which network and how it was sampled."""
    columns = [found.samples] + ([found.held_out] if found.held_out is not None else [])
    heads = ["samples", "held-out proteins"][: len(columns)]
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{read(side)}</td>' for side in columns)}</tr>"
        for name, read in _rows().items()
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>Samples</h1><p>{escape(title)}</p>"
        f"<table><thead><tr><th></th>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f'<tbody>{body}</tbody></table><p class="note">{escape(_note(found))}</p>{picture(found)}</body></html>\n'
    )


def _rows() -> dict[str, Callable[[Measures], str]]:
    def identity(read: Callable[[list[float]], float]) -> Callable[[Measures], str]:
        return lambda m: "–" if m.identities is None else f"{100 * read(list(m.identities)):.1f} %"

    def distinct(n: int) -> Callable[[Measures], str]:
        return lambda m: f"{100 * m.distinct_ngrams[n]:.2f} %"

    return {
        "proteins": lambda m: f"{m.proteins:,}",
        "of them different": lambda m: f"{m.distinct_proteins:,}",
        "residues": lambda m: f"{m.residues:,}",
        "composition: KL to training data, nats": lambda m: f"{m.divergence:.4f}",
        "residues in low complexity": lambda m: f"{100 * m.low_complexity:.1f} %",
        **{f"distinct {n}-grams": distinct(n) for n in (2, 3, 4)},
        "identity with nearest training protein, median": identity(median),
        "the same, highest": identity(max),
    }


def _note(found: Assessment) -> str:
    searched = (
        f"Nearest among {found.searched:,} training proteins: of the {CANDIDATES} that share the most words of {WORD} "
        "residues the best scoring local alignment (Smith-Waterman, BLOSUM62, a gap of k costs 11 + k); equal residues "
        "over the sample's length."
        if found.searched
        else "The training data was not at hand: no held-out proteins, no nearest neighbours."
    )
    return (
        f"A sample of this size from the training data's own composition has a KL of {found.divergence_by_chance:.4f}. "
        "Low complexity: first stage of SEG (Wootton and Federhen 1993), windows of 12, 2.2 and 2.5 bits. "
        f"Held-out proteins are validation proteins cut to the samples' lengths. {searched}"
    )
