"""The plots of the report: inline SVG without colours or fonts of its own.

Colours are CSS variables of the page, so one drawing suits light, dark and print. Text stays text.
Every estimate is a dot with its interval; there are no bars. The same data give the same bytes.

Names beside the points of a plot: as many as there is room for, none over another.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from expunge.reporting.schema import CurvePoint

if TYPE_CHECKING:  # matplotlib is loaded where something is drawn: most commands draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 9
"""Of the letters, points."""
_GAP = 6.0
"""Points between the middle of a point and its name."""
_LINE = SIZE + 3.0
"""Points from name to name where they are stacked."""
_LINES = 10
"""The most names in a stack."""
KEPT = 16
"""Drawings that are kept: those of a run's own report are those of its published one."""


class LabelledPoint(NamedTuple):
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


def name_points(axes: "Axes", points: Sequence[LabelledPoint], *, ink: str, line: str) -> None:
    """Write names beside points, or above them at the end of a line.

    Args:
        axes: With its limits set.
        points: What lies there; none of them is written over.
        ink: Colour of the letters.
        line: Colour of the lines.
    """
    from matplotlib.textpath import TextPath

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


Kind = Literal["original", "unlearned", "worst", "gold"]

# Colours that nothing else uses, replaced by the page's variables once the drawing is done.
_INK, _MUTED, _RULE, _PAPER = "#010101", "#020202", "#030303", "#040404"
_COLOUR: dict[Kind, str] = {
    "original": "#050505",
    "unlearned": "#060606",
    "worst": "#070707",
    "gold": "#080808",
}
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _RULE: "--rule",
    _PAPER: "--paper",
    **{colour: f"--{kind}" for kind, colour in _COLOUR.items()},
}
_LIGHT = {
    "--ink": "#1b1f24",
    "--muted": "#59616b",
    "--rule": "#d8dcdf",
    "--paper": "#fdfdfc",
    "--original": "#59616b",
    "--unlearned": "#1d4a73",
    "--worst": "#a12a2a",
    "--gold": "#85590a",
}
"""The page's light colours, for drawings outside of it."""
_MARKER: dict[Kind, str] = {"original": "s", "unlearned": "o", "worst": "o", "gold": "D"}
_WIDTH = 6.1  # inches at 72 units: 440 units wide, so that text keeps its size on a phone
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlottedInterval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryBar:
    """One row of the recovery ladder; `gold` is the gold model under the same attack."""

    label: str
    kind: Kind
    estimate: PlottedInterval
    gold: PlottedInterval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierPoint:
    """One model on the frontier: utility kept against forgetting."""

    label: str
    kind: Kind
    kept: PlottedInterval
    forgotten: PlottedInterval


@dataclass(frozen=True, kw_only=True, slots=True)
class SetChange:
    """One set of records that should have stayed: before and after."""

    label: str
    before: PlottedInterval
    after: PlottedInterval


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveAt:
    """How much of the facts is stated after some steps of fine-tuning, 0 to 1."""

    step: int
    model: float
    gold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One setting of an attack that trains; `worst` is the one that stands for the attack."""

    label: str
    worst: bool
    points: tuple[CurveAt, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One attack that trains, with the settings it tried."""

    label: str
    curves: tuple[Curve, ...]


@lru_cache(maxsize=KEPT)
def recovery_ladder(rungs: tuple[RecoveryBar, ...], *, measure: str) -> str:
    """Draw how much of the forgotten comes back, from before, through plain use, to each attack.

    Args:
        rungs: Top to bottom; the worst attack has kind `worst`.
        measure: What the horizontal axis measures, 0 to 1.
    """

    def draw(axes: "Axes") -> None:
        for y, rung in enumerate(rungs):
            if rung.gold is not None:
                _dot(axes, rung.gold, y=y + 0.24, kind="gold")
            _dot(axes, rung.estimate, y=y, kind=rung.kind)
        _rows(axes, [rung.label for rung in rungs])
        for tick, rung in zip(axes.get_yticklabels(), rungs, strict=True):
            tick.set_color(_COLOUR["worst"] if rung.kind == "worst" else _INK)
        axes.set_xlabel(measure)

    kinds: list[Kind] = [rung.kind for rung in rungs]
    if any(rung.gold for rung in rungs):
        kinds.append("gold")
    described = "; ".join(_spoken(rung.label, rung.estimate) for rung in rungs)
    title = f"Recovery ladder, {measure}: {described}"
    return _svg("ladder", draw, title=title, height=1.0 + 0.36 * len(rungs), legend=_once(kinds))


@lru_cache(maxsize=KEPT)
def frontier(places: tuple[FrontierPoint, ...], *, kept: str, forgotten: str) -> str:
    """Draw what was forgotten against what was kept, one point a model; up and right is good.

    Args:
        places: The models.
        kept: What the horizontal axis measures.
        forgotten: What the vertical axis measures, 0 to 1.
    """

    def draw(axes: "Axes") -> None:
        # Gold first and hollow: an unlearned model as good as gold lies on top of it.
        for place in sorted(places, key=lambda place: place.kind != "gold"):
            axes.errorbar(
                [place.kept.value],
                [place.forgotten.value],
                xerr=[[_below(place.kept)], [_above(place.kept)]],
                yerr=[[_below(place.forgotten)], [_above(place.forgotten)]],
                fmt=_MARKER[place.kind],
                color=_COLOUR[place.kind],
                markerfacecolor=_PAPER if place.kind == "gold" else _COLOUR[place.kind],
                markersize=9 if place.kind == "gold" else 6,
                elinewidth=1.2,
            )
        axes.set_xlim(_padded([x for p in places for x in (p.kept.low, p.kept.high)]))
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlabel(f"{kept} →")
        axes.set_ylabel(f"{forgotten} →")
        axes.grid(color=_RULE, linewidth=0.5)
        if [place.kind for place in places].count("unlearned") > 1:
            named = [LabelledPoint(p.label, p.kept.value, p.forgotten.value) for p in places]
            name_points(axes, named, ink=_INK, line=_MUTED)

    described = "; ".join(
        f"{place.label} kept {place.kept.value:.2f}, forgot {place.forgotten.value:.2f}"
        for place in places
    )
    title = f"Forgetting against utility: {described}"
    return _svg(
        "frontier", draw, title=title, height=3.7, legend=_once([place.kind for place in places])
    )


@lru_cache(maxsize=KEPT)
def collateral_map(changes: tuple[SetChange, ...], *, measure: str) -> str:
    """Draw what happened to records that should have stayed, nearest to the target first.

    Args:
        changes: Top to bottom.
        measure: What the horizontal axis measures.
    """

    def draw(axes: "Axes") -> None:
        for y, change in enumerate(changes):
            _dot(axes, change.before, y=y - 0.12, kind="original")
            _dot(axes, change.after, y=y + 0.12, kind="unlearned")
        _rows(axes, [change.label for change in changes])
        axes.set_xlabel(measure)

    described = "; ".join(
        f"{change.label} from {change.before.value:.2f} to {change.after.value:.2f}"
        for change in changes
    )
    title = f"Collateral map, {measure}: {described}"
    height = 1.0 + 0.42 * len(changes)
    return _svg("collateral", draw, title=title, height=height, legend=["original", "unlearned"])


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatRow:
    """One row of a heat map: a value for each block; None where the block has no such part."""

    label: str
    values: tuple[float | None, ...]


def heat_map(rows: Sequence[HeatRow], *, measure: str) -> str:
    """Draw values by block, each row on a scale of its own from its lowest to its highest value.

    Args:
        rows: Top to bottom, of one length.
        measure: What is shown, for readers who cannot see it.
    """

    def draw(axes: "Axes") -> None:
        scaled = [_scaled(row.values) for row in rows]
        axes.pcolormesh(scaled, cmap="Blues", vmin=0.0, vmax=1.0, edgecolor=_RULE, linewidth=0.4)
        axes.set_yticks([y + 0.5 for y in range(len(rows))], [row.label for row in rows])
        axes.set_ylim(len(rows), 0)
        blocks = len(rows[0].values)
        ticks = range(0, blocks, max(1, blocks // 10))
        axes.set_xticks([x + 0.5 for x in ticks], [str(x) for x in ticks])
        axes.set_xlabel("block")

    highest = "; ".join(f"{row.label} highest at block {_highest(row.values)}" for row in rows)
    title = f"Heat map, {measure}: {highest}"
    return _svg("heat", draw, title=title, height=1.0 + 0.3 * len(rows), legend=())


def _scaled(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    low, wide = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    return [float("nan") if v is None else (v - low) / (wide or 1.0) for v in values]


def _highest(values: Sequence[float | None]) -> int:
    return max(range(len(values)), key=lambda i: -float("inf") if (v := values[i]) is None else v)


LARGEST = 1e30
"""Largest value that is drawn; a file of somebody else may hold more than axes can show."""


def _drawable(value: float) -> float:
    return max(-LARGEST, min(value, LARGEST))


@lru_cache(maxsize=KEPT)
def training_dynamics(curve: tuple[CurvePoint, ...], *, stopped: str) -> str:
    """Draw both losses and the gradient norm over the optimiser steps, with the point of the stop.

    Args:
        curve: At least one step.
        stopped: Why the training ended.
    """
    panels: tuple[tuple[str, Callable[[CurvePoint], float | None], Kind], ...] = (
        ("forget loss", lambda point: point.forget, "worst"),
        ("retain loss", lambda point: point.retain, "unlearned"),
        ("gradient norm", lambda point: point.grad_norm, "original"),
    )
    with _figure("training", height=3.7) as figure:
        for i, (label, pick, kind) in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, i + 1)
            known = [(p.step, _drawable(y)) for p in curve if (y := pick(p)) is not None]
            axes.plot(
                [step for step, _ in known],
                [y for _, y in known],
                color=_COLOUR[kind],
                linewidth=1.4,
                marker="o" if len(known) < 2 else "",
            )
            axes.axvline(curve[-1].step, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
            axes.set_title(label, fontsize=10, loc="left", color=_MUTED, pad=3)
            axes.locator_params(axis="y", nbins=3)
            axes.tick_params(labelbottom=i == len(panels) - 1)
            axes.margins(x=0.02)
        figure.axes[-1].set_xlabel("optimiser step")
        title = f"Training dynamics over {curve[-1].step} steps; stopped: {stopped}"
        return _render(figure, "training", title)


@lru_cache(maxsize=KEPT)
def relearning_curves(panels: tuple[Panel, ...]) -> str:
    """Draw what fine-tuning brings back over its steps, each setting beside gold's under the same.

    Args:
        panels: At least one, top to bottom.
    """
    with _figure("relearning", height=0.7 + 1.5 * len(panels)) as figure:
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, i + 1)
            for curve in panel.curves:
                steps = [point.step for point in curve.points]
                kind: Kind = "worst" if curve.worst else "unlearned"
                model, gold = ([p.model for p in curve.points], [p.gold for p in curve.points])
                axes.plot(steps, gold, "D--", color=_COLOUR["gold"], linewidth=0.9, markersize=3)
                axes.plot(steps, model, "o-", color=_COLOUR[kind], linewidth=1.5, markersize=4)
            axes.set_title(panel.label, fontsize=10, loc="left", color=_MUTED, pad=3)
            axes.set_ylim(-0.03, 1.03)
            axes.locator_params(axis="y", nbins=3)
            axes.margins(x=0.02)
        figure.axes[-1].set_xlabel("steps of fine-tuning")
        _legend(figure, ["unlearned", "worst", "gold"])
        described = "; ".join(
            f"{panel.label}, {curve.label}: {curve.points[-1].model:.2f} against gold "
            f"{curve.points[-1].gold:.2f} after {curve.points[-1].step} steps"
            for panel in panels
            for curve in panel.curves
        )
        return _render(figure, "relearning", f"Relearning curves, share of facts: {described}")


@contextmanager
def _figure(name: str, *, height: float) -> Generator["Figure"]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield Figure(figsize=(_WIDTH, height), layout="constrained")


def _svg(
    name: str,
    draw: Callable[["Axes"], None],
    *,
    title: str,
    height: float,
    legend: Sequence[Kind],
) -> str:
    with _figure(name, height=height) as figure:
        axes = figure.add_subplot()
        draw(axes)
        _legend(figure, legend)
        return _render(figure, name, title)


def _legend(figure: "Figure", kinds: Sequence[Kind]) -> None:
    if not kinds:
        return
    for kind in kinds:
        figure.axes[0].plot(
            [], [], _MARKER[kind], color=_COLOUR[kind], label=_LEGEND[kind], markersize=6
        )
    figure.legend(
        loc="outside upper left",
        ncols=len(kinds),
        frameon=False,
        fontsize=10,
        handletextpad=0.1,
        columnspacing=1.2,
        borderaxespad=0.1,
    )


_LEGEND: dict[Kind, str] = {
    "original": "before",
    "unlearned": "after",
    "worst": "after, worst attack",
    "gold": "never trained on it",
}


def _once(kinds: Sequence[Kind]) -> list[Kind]:
    return list(dict.fromkeys(kinds))


def _rows(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, color=_INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _dot(axes: "Axes", estimate: PlottedInterval, *, y: float, kind: Kind) -> None:
    small = kind == "gold"
    axes.errorbar(
        [estimate.value],
        [y],
        xerr=[[_below(estimate)], [_above(estimate)]],
        fmt=_MARKER[kind],
        color=_COLOUR[kind],
        markerfacecolor=_PAPER if small else _COLOUR[kind],
        markersize=4.5 if small else 6.5,
        elinewidth=1 if small else 1.6,
        clip_on=False,
    )


def _below(estimate: PlottedInterval) -> float:
    return max(0.0, estimate.value - estimate.low)


def _above(estimate: PlottedInterval) -> float:
    return max(0.0, estimate.high - estimate.value)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    pad = 0.06 * (max(values) - min(values)) or 0.05
    return min(values) - pad, max(values) + pad


def _spoken(label: str, estimate: PlottedInterval) -> str:
    return f"{label} {estimate.value:.2f} (interval {estimate.low:.2f} to {estimate.high:.2f})"


def alone(svg: str) -> str:
    """Return a drawing as a file of its own, with the colours of a light page."""
    colours = "; ".join(f"{name}: {colour}" for name, colour in _LIGHT.items())
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {spaces} style="{colours}; background: var(--paper)" '
    return svg.replace("<svg ", head, 1)


def _render(figure: "Figure", name: str, title: str) -> str:
    """Return the drawing as an `svg` element that can stand beside others in one page."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#(\w+)', svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' * (match[1] in used), svg
    )
    svg = re.sub(r'(href="|url\()#(\w+)', rf"\1#{name}-\2", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    start = svg.index(">") + 1
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(title)}" class="plot">'
    return head + re.sub(r">\s+<", "><", svg[start:]).strip()
