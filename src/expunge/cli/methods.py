"""`expunge methods`: what there is to choose from, and the formula of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.utils.console import Console

if TYPE_CHECKING:
    from expunge.config.catalogue import Catalogue, MethodDescription, WrapperDescription


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
    from expunge.config.catalogue import catalogue

    found = catalogue()
    wrapper = next((each for each in found.wrappers if name and each.name == name.lower()), None)
    if name is None:
        _list(found, session.console)
    elif wrapper is not None:
        _show_wrapper(wrapper, found, session.console)
    else:
        _show_method(_method(name, found), found, session.console)
    return 0


def _list(found: "Catalogue", console: Console) -> None:
    for family, meaning in found.families.items():
        console.line(family, meaning)
        members = [each for each in found.methods if each.family == family]
        for each in sorted(members, key=lambda each: each.name):
            console.note(f"{each.name}: {each.advice} (reads {', '.join(each.data)}; {each.cost})")
    console.line("cost", "F: one forward pass over one record of each set")
    for table, meaning in found.tables.items():
        console.line(table, f"{meaning}, with any method that trains: --set {table}.name=NAME")
        for wrapper in (wrapper for wrapper in found.wrappers if wrapper.table == table):
            console.note(f"{wrapper.name}: {wrapper.advice}")
    names = [each.name for each in found.methods]
    console.event("methods", {"names": names, "wrappers": [each.name for each in found.wrappers]})


def _method(name: str, found: "Catalogue") -> "MethodDescription":
    """Return one method; a class from elsewhere is built to be described, which loads torch.

    Raises:
        UsageError: There is none of that name.
    """
    if ":" not in name:
        from expunge.utils.registry import OR_OWN, require_known

        require_known("method", name, [each.name for each in found.methods], otherwise=OR_OWN)
        return next(each for each in found.methods if each.name == name)
    from expunge.methods import build
    from expunge.methods.describe import describe

    return describe(name, build(name, {}))


def _show_method(each: "MethodDescription", found: "Catalogue", console: Console) -> None:
    console.line(each.name, each.advice)
    console.line("family", f"{each.family}: {found.families[each.family]}")
    console.line("reads", ", ".join(each.data))
    console.line("keeps", ", ".join(each.keeps) or "nothing of the original")
    console.line("cost", each.cost)
    console.line("parameters", _parameters(each.defaults))
    console.line("formula", each.formula)
    told = {"name": each.name, "cost": each.cost, "knobs": dict(each.defaults)}
    console.event("method", told)


def _show_wrapper(each: "WrapperDescription", found: "Catalogue", console: Console) -> None:
    console.line(each.name, each.advice)
    console.line("wrapper", found.tables[each.table])
    console.line("chosen by", f"--set {each.table}.name={each.name}, with any method that trains")
    console.line("parameters", _parameters(each.defaults))
    console.line("formula", each.formula)
    told = {"name": each.name, "table": each.table, "knobs": dict(each.defaults)}
    console.event("wrapper", told)


def _parameters(defaults: Sequence[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in defaults) or "none"
