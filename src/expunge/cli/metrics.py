"""`expunge metrics`: what is measured, what each metric needs, and its definition."""

import inspect
import sys
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given


def metrics(
    name: Annotated[str | None, Parameter(help="show the definition of one")] = None,
    /,
    *,
    session: Given,
) -> int:
    """List the metrics by axis: what each needs, which way is better, and what it costs."""
    from expunge.methods.describe import flowing
    from expunge.metrics.outcomes import Axis
    from expunge.metrics.registry import CATALOGUE, find, named

    console = session.console
    if name is not None:
        entry = find(name)
        console.line(entry.id, named(entry))
        console.line("needs", ", ".join(entry.needs) or "nothing more")
        console.line("cost", entry.cost)
        console.line("by", entry.where)
        console.line("gated", "yes" if entry.gated else "no, shown for comparison")
        for part in (sys.modules[entry.of.__module__], entry.of):
            console.line("definition", flowing(inspect.getdoc(part) or ""))
        console.event("metric", {"name": entry.id, "needs": list(entry.needs)})
        return 0
    for axis in (*Axis, None):
        console.line(axis.value if axis else "efficiency", "")
        for entry in CATALOGUE:
            if entry.axis is axis:
                needs = ", ".join(entry.needs) or "nothing more"
                gated = "; gated" if entry.gated else ""
                console.note(f"{entry.id}: {named(entry)}; {entry.cost}; needs {needs}{gated}")
    console.line("cost", "TF: one teacher-forced pass over a record; GEN: one greedy answer")
    console.event("metrics", {"names": [entry.id for entry in CATALOGUE]})
    return 0
