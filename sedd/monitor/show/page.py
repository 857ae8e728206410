"""The frame of a report: HTML and CSS around its body."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2330; --dim: #667085; --line: #d9dee7; --card: #f5f7fa; --page: #fff;
  --a: #2563eb; --b: #d97706; --good: #15803d; --bad: #b91c1c; --wait: #a16207; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e9ef; --dim: #98a2b3; --line: #333b49; --card: #1b212c;
  --page: #12161e; --a: #7aa2ff; --b: #f5b041; --good: #4ade80; --bad: #f87171; --wait: #facc15; }} }}
body {{ font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1.25rem; }}
h1 {{ margin: 0; font-size: 1.7rem; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
.id, figcaption, dt, th {{ color: var(--dim); font-weight: normal; }}
.state.completed, .state.running {{ color: var(--good); }}
.state.failed, .state.gave_up, .state.lost, .state.stalled {{ color: var(--bad); }}
.state.queued, .state.requeued, .state.interrupted {{ color: var(--wait); }}
dl {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }}
dl div {{ background: var(--card); border-radius: .5rem; padding: .5rem .8rem; }}
dt {{ font-size: .8rem; }}
dd {{ margin: 0; font-size: 1.1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
figure {{ margin: 1.2rem 0; }}
svg {{ width: 100%; height: auto; display: block; }}
.grid {{ stroke: var(--line); }}
.tick {{ fill: var(--dim); font-size: 11px; }}
.curve {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; }}
.curve-0 {{ stroke: var(--a); }}
.curve-1 {{ stroke: var(--b); }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; }}
tr {{ border-bottom: 1px solid var(--line); }}
pre {{ background: var(--card); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }}
.trouble {{ border-left: 4px solid var(--bad); padding: .2rem 0 .2rem 1rem; margin: 1rem 0; }}
.wide {{ overflow-x: auto; }}
@media (max-width: 40rem) {{ .tick {{ font-size: 14px; }} table {{ font-size: .85rem; }} }}
@media print {{ body {{ margin: 0; max-width: none; }} pre {{ white-space: pre-wrap; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
