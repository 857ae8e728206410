"""A line of a table for the terminal, in columns of given widths."""

from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len, set_cell_size


def column_line(row: Sequence[str], widths: Mapping[int, int], *, right: Collection[int]) -> str:
    """The cells whose numbers have a width, cut to it; those of `right` stand at the right of their column."""
    cells = []
    for k, width in widths.items():
        text = row[k] if cell_len(row[k]) <= width else f"{set_cell_size(row[k], width - 1).rstrip()}…"
        padding = " " * (width - cell_len(text))
        cells.append(padding + text if k in right else text + padding)
    return "  ".join(cells).rstrip()
