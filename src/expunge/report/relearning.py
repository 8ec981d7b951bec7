"""Relearning curves: what fine-tuning brings back step by step, held against gold."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.report.plots import Curve, CurveAt, Panel, relearning_curves

if TYPE_CHECKING:
    from expunge.audit.attacks.ladder import Finding, Rung

_TRAINED = re.compile(r"(?P<setting>.+) step (?P<step>\d+)")
_UNTOUCHED = "untouched"


def relearning(rungs: "Sequence[Rung]") -> str | None:
    """Draw a panel for each attack that trains, the worst first; None where none was scored."""
    panels = [panel for rung in rungs if (panel := relearning_panel(rung)) is not None]
    return relearning_curves(panels) if panels else None


def relearning_panel(rung: "Rung") -> Panel | None:
    """Return one curve for each setting of an attack that trains, else None.

    The untouched model begins all of them.
    """
    start = [_at(0, test) for test in rung.tests if test.variant == _UNTOUCHED]
    points: dict[str, list[CurveAt]] = {}
    for test in rung.tests:
        trained = _TRAINED.fullmatch(test.variant)
        if trained is not None:
            points.setdefault(trained["setting"], list(start)).append(
                _at(int(trained["step"]), test)
            )
    if not points:
        return None
    worst = rung.worst
    assert worst is not None
    trained = _TRAINED.fullmatch(worst.variant)
    curves = tuple(
        Curve(
            label=setting,
            worst=trained is not None and trained["setting"] == setting,
            points=tuple(sorted(found, key=lambda point: point.step)),
        )
        for setting, found in sorted(points.items())
    )
    return Panel(label=rung.attack, curves=curves)


def _at(step: int, test: "Finding") -> CurveAt:
    return CurveAt(step=step, model=test.judged, gold=test.anchor)
