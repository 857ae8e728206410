"""`--json` is stable and documented."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sedd.monitor
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.show.document import VERSION, status_document

README = Path(sedd.monitor.__file__).parent / "README.md"


def test_document_of_a_busy_morning(zoo: Snapshot, golden: Callable[[str, str], None]) -> None:
    text = json.dumps(status_document(zoo, zoo.runs[:1]), indent=1)
    root = str(zoo.runs[0].run.path.parent.parent)
    golden("status.json", text.replace(root, "RUNS") + "\n")


def test_every_field_is_documented_and_every_documented_field_is_there(zoo: Snapshot) -> None:
    section = README.read_text(encoding="utf-8").split("## `--json`, version")[1]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, flags=re.M)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {*status_document(zoo, zoo.runs)["runs"][0], "timeline", "usage", "lineage"}
    assert section.startswith(f" {VERSION}\n")


def test_json_has_no_nan(farm: Any, snapshot_of: Callable[..., Snapshot]) -> None:
    run = (
        farm.run(executor="local").submitted(ago_s=9).started(ago_s=8).beat(1, loss=math.nan, eta_s=math.inf)
    )
    snapshot = snapshot_of(run, alive=True)
    json.dumps(status_document(snapshot, snapshot.runs), allow_nan=False)
