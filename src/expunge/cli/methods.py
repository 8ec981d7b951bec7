"""`expunge methods`: what there is to choose from, and the formula of each."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.utils.console import Console

if TYPE_CHECKING:
    from expunge.optim.describe import WrapperDescription


def methods(
    name: Annotated[
        str | None,
        Parameter(help="show the formula and the hyperparameters of a method or a wrapper"),
    ] = None,
    /,
    *,
    session: Given,
) -> int:
    """List the methods by family: what each needs, costs and is for. Wrappers compose with any."""
    from expunge.optim.describe import described_wrappers

    wrappers = {each.name: each for each in described_wrappers()}
    if name is None:
        _list(wrappers.values(), session.console)
    elif name.lower() in wrappers:
        _show_wrapper(wrappers[name.lower()], session.console)
    else:
        _show_method(name, session.console)
    return 0


def _list(wrappers: Collection["WrapperDescription"], console: Console) -> None:
    from expunge.methods import EVERY, build
    from expunge.methods.base import FAMILIES
    from expunge.methods.describe import describe
    from expunge.optim.describe import TABLES

    rows = [describe(each, build(each, {})) for each in EVERY]
    for family, meaning in FAMILIES.items():
        console.line(family, meaning)
        for row in sorted((row for row in rows if row.family == family), key=lambda r: r.name):
            console.note(f"{row.name}: {row.advice} (reads {', '.join(row.data)}; {row.cost})")
    console.line("cost", "F: one forward pass over one record of each set")
    for table, (_, meaning) in TABLES.items():
        console.line(table, f"{meaning}, with any method that trains: --set {table}.name=NAME")
        for each in (each for each in wrappers if each.table == table):
            console.note(f"{each.name}: {each.advice}")
    names = {"names": [row.name for row in rows], "wrappers": [each.name for each in wrappers]}
    console.event("methods", names)


def _show_method(name: str, console: Console) -> None:
    from expunge.methods import build
    from expunge.methods.base import FAMILIES
    from expunge.methods.describe import describe

    found = describe(name, build(name, {}))
    console.line(name, found.advice)
    console.line("family", f"{found.family}: {FAMILIES[found.family]}")
    console.line("reads", ", ".join(found.data))
    console.line("keeps", ", ".join(found.keeps) or "nothing of the original")
    console.line("cost", found.cost)
    console.line("parameters", _parameters(found.defaults))
    console.line("formula", found.formula)
    console.event("method", {"name": name, "cost": found.cost, "knobs": dict(found.defaults)})


def _show_wrapper(found: "WrapperDescription", console: Console) -> None:
    from expunge.optim.describe import TABLES

    console.line(found.name, found.advice)
    console.line("wrapper", TABLES[found.table][1])
    console.line("chosen by", f"--set {found.table}.name={found.name}, with any method that trains")
    console.line("parameters", _parameters(found.defaults))
    console.line("formula", found.formula)
    told = {"name": found.name, "table": found.table, "knobs": dict(found.defaults)}
    console.event("wrapper", told)


def _parameters(defaults: Sequence[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in defaults) or "none"
