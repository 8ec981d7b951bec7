"""Names beside points: each has one, and none lies on another or on a point."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from expunge.reporting.plots import (
    SIZE,
    FrontierPoint,
    Kind,
    LabelledPoint,
    PlottedInterval,
    frontier,
    name_points,
)

CROWD = [(0.76, 0), (0.8, 0), (0.84, 0), (0.84, 0), (0.94, 0), (0.97, 0), (0.99, 0), (1, 0)]
SPREAD = [(0, 0.2), (0, 0.7), (0.5, 0.6), (0.6, 0.95), (0.9, 0.9), (1, 0)]


def boxes(points):
    """Where names lie, in points from the lower left corner of a plot of 440 by 266 points."""
    figure = Figure(figsize=(440 / 72, 266 / 72))
    axes = figure.add_subplot()
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.06, 1.06)
    named = [LabelledPoint(f"method-{index}", x, y) for index, (x, y) in enumerate(points)]
    name_points(axes, named, ink="black", line="grey")
    scale = (440 - 60) / 1.12, (266 - 75) / 1.12
    found = {}
    for text in axes.texts:
        (x, y), (across, up) = text.xy, text.get_position()
        left, low = (x + 0.06) * scale[0] + across, (y + 0.06) * scale[1] + up - 2
        wide = TextPath((0, 0), text.get_text(), size=SIZE).get_extents().width
        found[text.get_text()] = (left, low, left + wide, low + SIZE)
    dots = [((x + 0.06) * scale[0], (y + 0.06) * scale[1]) for x, y in points]
    return found, dots


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("points", [CROWD, SPREAD, CROWD + SPREAD], ids=["crowd", "spread", "both"])
def test_each_point_is_named(points):
    found, _ = boxes(points)
    assert len(found) == len(points)


@settings(deadline=None)  # a busy machine is no slow test
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25))
def test_no_name_lies_on_another_or_on_a_point_or_outside(points):
    found, dots = boxes(points)
    assert found
    assert not any(meet(*pair) for pair in combinations(found.values(), 2))
    for left, low, right, high in found.values():
        assert not any(left < x < right and low < y < high for x, y in dots)
        assert left >= 0
        assert low >= 0
        assert right <= 440 - 60
        assert high <= 266 - 75


@pytest.mark.parametrize("after", [1, 2])
def test_models_are_named_where_the_legend_does_not_tell_them_apart(after):
    kinds: list[Kind] = ["original", "gold"]
    at = PlottedInterval(value=0.5, low=0.4, high=0.6)
    labels = [(f"model-{n}", kind) for n, kind in enumerate([*kinds, *["unlearned"] * after])]
    places = [FrontierPoint(label=name, kind=kind, kept=at, forgotten=at) for name, kind in labels]
    drawn = frontier(tuple(places), kept="kept", forgotten="forgotten")
    words = drawn.split(">")
    assert all(any(word.startswith(name) for word in words) is (after > 1) for name, _ in labels)
