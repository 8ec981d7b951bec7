"""Names beside the points of a plot: as many as there is room for, none over another."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

SIZE = 9
"""Of the letters, points."""
_GAP = 6.0
"""Points between the middle of a point and its name."""
_LINE = SIZE + 3.0
"""Points from name to name where they are stacked."""
_LINES = 10
"""The most names in a stack."""


class Named(NamedTuple):
    """A point and what it is called."""

    name: str
    x: float
    y: float


class _Box(NamedTuple):
    """A rectangle, points of the drawing."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: "_Box") -> bool:
        """Tell whether they overlap."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.high <= other.low or other.high <= self.low)

    def holds(self, other: "_Box") -> bool:
        """Tell whether the other one lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.low <= other.low and other.high <= self.high


def name_points(axes: Axes, points: Sequence[Named], *, ink: str, line: str) -> None:
    """Write names beside points, or above them at the end of a line.

    Args:
        axes: With its limits set.
        points: What lies there; none of them is written over.
        ink: Colour of the letters.
        line: Colour of the lines.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    inches = figure.get_size_inches()
    # Where ticks, labels and the legend will lie is not known yet: they take about as much.
    width, height = 72 * inches[0] - 60, 72 * inches[1] - 75
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places = [
        ((p.x - left) / (right - left) * width, (p.y - low) / (high - low) * height) for p in points
    ]
    page, dot = _Box(0, 0, width, height), _GAP - 2
    taken = [_Box(x - dot, y - dot, x + dot, y + dot) for x, y in places]
    # From left to right, with names that end at their points, lines do not cross.
    for (x, y), point in sorted(zip(places, points, strict=True)):
        wide = TextPath((0, 0), point.name, size=SIZE).get_extents().width
        for across, up in _around(wide):
            box = _Box(x + across, y + up, x + across + wide, y + up + SIZE)
            if page.holds(box) and not any(map(box.meets, taken)):
                taken.append(box)
                axes.annotate(
                    point.name,
                    (point.x, point.y),
                    (across, up + 2),
                    textcoords="offset points",
                    fontsize=SIZE,
                    color=ink,
                    arrowprops=_pointing(across, line) if up >= _LINE else None,
                )
                break


def _pointing(across: float, colour: str) -> dict[str, object]:
    """Return a line from the end of a name that is nearer to its point, and lower."""
    corner = (1.0, 0.0) if across < 0 else (0.0, 0.0)
    return {"arrowstyle": "-", "color": colour, "relpos": corner, "shrinkA": 0, "linewidth": 0.7}


def _around(width: float) -> Sequence[tuple[float, float]]:
    """Return where the lower left corner of a name may lie, seen from its point."""
    left, right = -width - _GAP, _GAP
    near = [(left, 3.0), (right, 3.0), (left, -SIZE - 3.0), (right, -SIZE - 3.0)]
    stacked = [(side, 3.0 + n * _LINE) for side in (left, right) for n in range(1, _LINES)]
    return [*near, *stacked]
