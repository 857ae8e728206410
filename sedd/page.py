"""Make HTML pages of one file that need no network: the frame, sections and tables."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #667085; --line: #d9dee7; --card: #f5f7fa; --page: #fff;
  --a: #2563eb; --b: #d97706; --good: #15803d; --bad: #b91c1c; --wait: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #333b49; --card: #1b212c;
  --page: #12161e; --a: #7aa2ff; --b: #f5b041; --good: #4ade80; --bad: #f87171; --wait: #facc15; } }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { margin: 0; font-size: 1.7rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.id, .note, figcaption, dt, th { color: var(--dim); font-weight: normal; }
.state.completed, .state.running { color: var(--good); }
.state.failed, .state.gave_up, .state.lost, .state.stalled { color: var(--bad); }
.state.queued, .state.requeued, .state.interrupted { color: var(--wait); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
dl div { background: var(--card); border-radius: .5rem; padding: .5rem .8rem; }
dt { font-size: .8rem; }
dd { margin: 0; font-size: 1.1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 1.2rem 0; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--line); }
.tick { fill: var(--dim); font-size: 11px; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.dot { fill: none; stroke-width: 3.5; }
.curve-0 { stroke: var(--a); }
.curve-1 { stroke: var(--b); }
.curve-2 { stroke: #0d9488; }
.curve-3 { stroke: #c026d3; }
.curve-4 { stroke: #65a30d; }
.curve-5 { stroke: #dc2626; }
.curve-6 { stroke: #64748b; }
.curve-7 { stroke: #92400e; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; }
tr { border-bottom: 1px solid var(--line); }
pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
.trouble { border-left: 4px solid var(--bad); padding: .2rem 0 .2rem 1rem; margin: 1rem 0; }
.numbers { width: auto; }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align: right; padding-left: 1.2rem; }
.wide { overflow-x: auto; }
.lines th, .lines td, .names th, .names td { white-space: nowrap; }
.names td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; }
@media (max-width: 40rem) { .tick { font-size: 14px; } table { font-size: .85rem; } }
@media print { body { margin: 0; max-width: none; } pre { white-space: pre-wrap; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return the whole page; `body` is HTML, of which empty parts are left out, `title` is text."""
    parts = "\n".join(part for part in body if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{parts}\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """Return a heading over `content`, which is HTML; "" without content."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table of texts that scrolls where it is too wide; "" without rows.

    `kind` are classes of the style: `numbers` aligns all columns but the first to the right, `lines` breaks no line,
    `names` only those of the first column, where the page is too narrow.
    """
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    whole = f'<table class="{kind}"><tr>{head}</tr>{"".join(lines)}</table>'
    return f'<div class="wide">{whole}</div>' if lines else ""
