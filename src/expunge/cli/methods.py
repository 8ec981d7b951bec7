"""`expunge methods`: what there is to choose from, and the formula of each."""

from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given


def methods(
    name: Annotated[str | None, Parameter(help="show the formula and the knobs of one")] = None,
    /,
    *,
    session: Given,
) -> int:
    """List the methods by family: what each needs, costs and is for. Wrappers compose with any."""
    from expunge.methods import EVERY, build
    from expunge.methods.describe import describe
    from expunge.methods.terms import FAMILIES

    console = session.console
    if name is not None:
        found = describe(name, build(name, {}))
        console.line(name, found.advice)
        console.line("family", f"{found.family}: {FAMILIES[found.family]}")
        console.line("reads", ", ".join(found.data))
        console.line("keeps", ", ".join(found.keeps) or "nothing of the original")
        console.line("cost", found.cost)
        knobs = ", ".join(f"{knob} {value}" for knob, value in found.defaults)
        console.line("knobs", knobs or "none")
        console.line("formula", found.formula)
        console.event("method", {"name": name, "cost": found.cost, "knobs": dict(found.defaults)})
        return 0
    rows = [describe(each, build(each, {})) for each in EVERY]
    for family, meaning in FAMILIES.items():
        console.line(family, meaning)
        for row in sorted((row for row in rows if row.family == family), key=lambda r: r.name):
            console.note(f"{row.name}: {row.advice} (reads {', '.join(row.data)}; {row.cost})")
    console.line("cost", "F: one forward pass over one record of each set")
    console.event("methods", {"names": [row.name for row in rows]})
    return 0
