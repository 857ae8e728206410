"""Charts as SVG."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.charts import line_chart, tick_labels, ticks


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


@pytest.mark.parametrize(
    "labels",
    [
        ("a", "b"),
        ("learning_rate=0.001 seed=0", "b"),
        tuple("abcde"),
        tuple(
            f"#{k} diffusion.parameterization=score learning_rate=0.00066667 weight_decay=0.1"
            for k in range(8)
        ),
    ],
)
def test_labels_of_curves_do_not_cover_each_other(labels: tuple[str, ...]) -> None:
    """A letter of a tick is at most 7.5 wide, and a line of them 12 high."""
    figure = ET.fromstring(
        line_chart("Loss", [(label, [(0, 1.0), (1, k)]) for k, label in enumerate(labels)])
    )
    picture = figure.find("svg")
    assert picture is not None
    width, height = map(float, picture.attrib["viewBox"].split()[2:])
    boxes = []
    for text in picture.iter("text"):
        if text.text in labels:
            x, y = float(text.attrib["x"]), float(text.attrib["y"])
            boxes.append((x - 26, x + 7.5 * len(text.text), y - 12, y))
    assert len(boxes) == len(labels)
    for k, (left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        for other in boxes[:k]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart("x", [("a", []), ("b", [(1, math.nan), (2, math.nan)])]) == ""


@pytest.mark.parametrize("others", [[], [(1.0, 2.0), (9.0, 1.5)]])
def test_a_curve_of_one_point_is_a_dot_with_its_label(others: list[tuple[float, float]]) -> None:
    curves = [("one point", [(4.0, 1.7), (5.0, math.nan)]), ("others", others)]
    picture = ET.fromstring(line_chart("Loss", curves)).find("svg")
    assert picture is not None
    drawn, legend = [c for c in picture.iter("circle") if c.attrib["class"] == "dot curve-0"]
    assert 64 < float(drawn.attrib["cx"]) < 708, "inside, not on the edge"
    assert 14 < float(drawn.attrib["cy"]) < 206
    (label,) = [text for text in picture.iter("text") if text.text == "one point"]
    assert float(label.attrib["x"]) - float(legend.attrib["cx"]) == 16
    assert len(list(picture.iter("polyline"))) == bool(others)


def test_the_only_curve_of_several_that_can_be_drawn_is_named_and_one_alone_is_not() -> None:
    points = [(1.0, 2.0), (2.0, 1.0)]
    assert ">first</text>" in line_chart("Loss", [("first", points), ("second", [])])
    assert ">first</text>" not in line_chart("Loss", [("first", points)])


@given(st.floats(1e-9, 1e9), st.floats(1e-12, 1e3))
def test_labels_of_an_axis_are_short_and_differ(low: float, share: float) -> None:
    marks = ticks(low, low * (1 + share))
    labels = tick_labels(marks)
    assert len(set(labels)) == len(set(marks))
    assert all(len(label) <= 9 for label in labels)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([2.4, 2.6, 2.8], ["2.4", "2.6", "2.8"]),
        ([0.0, 0.0001, 0.0002], ["0", "1e-4", "2e-4"]),
        ([0.0003, 0.00030001, 0.00030002], ["3e-4", "+1e-8", "+2e-8"]),
        ([1000.0, 1000.001], ["1000", "+1e-3"]),
        ([5.0], ["5"]),
        ([1 / 3000, 0.002], ["3.33e-4", "0.002"]),
        ([1234567.0, 1234567.5], ["1.235e6", "+0.5"]),
    ],
)
def test_labels_tell_what_differs(values: list[float], labels: list[str]) -> None:
    assert tick_labels(values) == labels
