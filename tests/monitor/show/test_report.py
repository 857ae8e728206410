"""One run as a page."""

import html.parser
import json
import math
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.monitor.decide.inspection import inspect
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.report import read_documents, render_report

VOID = {"meta", "br", "line", "polyline"}


@pytest.fixture
def page_of(zoo: Snapshot, squeue_line: Callable[..., str]) -> Callable[[str], str]:
    def page(name: str) -> str:
        run = next(view.run for view in zoo.runs if view.name == name)
        gatherer = Gatherer(queue=Queue(squeue=lambda users: squeue_line("100")))
        facts = gatherer.gather([run], now=zoo.taken).runs[0]
        return render_report(inspect(facts, now=zoo.taken), read_documents(run))

    return page


def furnish(zoo: Snapshot) -> None:
    """Give the running run a curve, samples and a hostile spec."""
    run = next(view.run for view in zoo.runs if view.name == "uniref50_small")
    with open(run.metrics, "w") as file:
        for k in range(1, 407):
            row = {
                "step": 100 * k,
                "loss": 2.4 + 0.6 * math.exp(-k / 60),
                "learning_rate": 3e-4 * min(1, k / 50),
            }
            file.write(
                json.dumps(row | ({"validation_bound": row["loss"] + 0.01} if k % 50 == 0 else {})) + "\n"
            )
    run.samples.mkdir()
    (run.samples / "new.fasta").write_text(">sample-1 step=40000\n" + "MKTAYIAKQR" * 15 + "\n>sample-2\nMK\n")
    run.spec.write_text("name: x # <script>alert('no')</script> {body}\n")


class Balance(html.parser.HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        assert tag in VOID


def test_every_run_has_a_well_formed_page_that_needs_no_network(
    zoo: Snapshot, page_of: Callable[[str], str]
) -> None:
    furnish(zoo)
    for view in zoo.runs:
        page = page_of(view.name)
        balance = Balance()
        balance.feed(page)
        assert balance.open == []
        assert not re.search(r"https?:|//\w|src=|@import|url\(|<link|<script", page)
        assert view.id in page


def test_a_page_shows_curves_attempts_samples_and_configuration(
    zoo: Snapshot, page_of: Callable[[str], str]
) -> None:
    furnish(zoo)
    page = page_of("uniref50_small")
    assert page.count("<polyline") == 3
    assert "<td>preempted</td>" in page
    assert "sample-1" in page
    assert "MKTAYIAKQR" * 6 + "\n" in page
    assert "&lt;script&gt;" in page


def test_a_run_in_trouble_says_so_first(page_of: Callable[[str], str]) -> None:
    page = page_of("gave_up")
    assert page.index("no kernel image") < page.index("<dl>")


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(page: Path, width: int, *arguments: str) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},1600",
        *arguments,
        page.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_a_real_browser_draws_it(zoo: Snapshot, page_of: Callable[[str], str], tmp_path: Path) -> None:
    furnish(zoo)
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(page_of("uniref50_small"), encoding="utf-8")
    browse(page, 1100, f"--screenshot={picture}")
    assert len(colours(picture)) > 50


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_it_fits_a_narrow_window(zoo: Snapshot, page_of: Callable[[str], str], tmp_path: Path) -> None:
    furnish(zoo)
    probe = "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth</script></body>"
    page = tmp_path / "report.html"
    page.write_text(page_of("uniref50_small").replace("</body>", probe), encoding="utf-8")
    found = re.search(r"<title>(\d+) (\d+)</title>", browse(page, 520, "--dump-dom"))
    assert found is not None
    assert int(found[1]) <= int(found[2])


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_in_a_phones_width_attempts_scroll_and_keep_their_lines(
    zoo: Snapshot, page_of: Callable[[str], str], tmp_path: Path
) -> None:
    probe = (
        "<script>const t = document.querySelector('table.lines'), box = t.parentElement;"
        "box.scrollLeft = 9999; document.title = [box.scrollLeft > 0, t.rows[1].offsetHeight].join(' ')</script></body>"
    )
    page = tmp_path / "report.html"
    frame = '<iframe style="width:420px;height:900px" src="report.html"></iframe><script>onload = () => '
    page.write_text(page_of("uniref50_small").replace("</body>", probe), encoding="utf-8")
    outer = tmp_path / "phone.html"
    outer.write_text(f"{frame}document.title = frames[0].document.title</script>", encoding="utf-8")
    found = re.search(
        r"<title>(\w+) (\d+)</title>", browse(outer, 1000, "--dump-dom", "--allow-file-access-from-files")
    )
    assert found is not None
    assert found[1] == "true"
    assert int(found[2]) < 40, "one line of text"


def colours(png: Path) -> set[bytes]:
    """The colours of a PNG's pixels before prediction is undone: enough to tell a drawing from a blank page."""
    content = png.read_bytes()
    data, position = b"", 8
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        if content[position + 4 : position + 8] == b"IDAT":
            data += content[position + 8 : position + 8 + length]
        position += 12 + length
    raw = zlib.decompress(data)
    return {raw[k : k + 4] for k in range(0, len(raw) - 4, 4)}
