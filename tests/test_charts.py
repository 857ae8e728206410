"""Charts as SVG."""

import math
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from sedd.charts import line_chart, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert len(found) <= 6
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_a_chart_is_well_formed_and_inside_its_box() -> None:
    points = [(float(k), 3 * math.exp(-k / 100)) for k in range(1000)]
    figure = ET.fromstring(line_chart('Loss <of> "it"', [("a & b", points), ("c", points[:2])], unit="nats"))
    lines = figure.findall(".//polyline")
    assert len(lines) == 2
    for line in lines:
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 720
            assert 0 <= y <= 240


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart("x", [("a", [(1, 2.0)]), ("b", [(1, math.nan), (2, math.nan)])]) == ""
