"""`expunge metrics`: what is measured, what each metric needs, and its definition."""

import inspect
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
    from expunge.config.catalogue import flowing
    from expunge.metrics.outcomes import Axis
    from expunge.metrics.registry import METRICS, find

    console = session.console
    if name is not None:
        metric = find(name)
        console.line(metric.id, metric.direction)
        console.line("meaning", f"{metric.title}. {metric.meaning}")
        console.line("needs", ", ".join(metric.needs) or "nothing more")
        console.line("cost", metric.cost)
        console.line("by", metric.where)
        console.line("gated", "yes" if metric.gated else "no, shown for comparison")
        console.line("source", metric.source or "this package")
        console.line("definition", flowing(inspect.getdoc(metric.of) or ""))
        console.event("metric", {"name": metric.id, "needs": list(metric.needs)})
        return 0
    for axis in (*Axis, None):
        console.line(axis.value if axis else "efficiency", "")
        for metric in METRICS:
            if metric.axis is axis:
                needs = ", ".join(metric.needs) or "nothing more"
                gated = "; gated" if metric.gated else ""
                told = f"{metric.direction}; {metric.cost}; needs {needs}{gated}"
                console.note(f"{metric.id}: {told}")
    console.line("cost", "TF: one teacher-forced pass over a record; GEN: one greedy answer")
    console.event("metrics", {"names": [metric.id for metric in METRICS]})
    return 0
