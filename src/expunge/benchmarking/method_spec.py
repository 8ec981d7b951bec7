"""Composed names: a method with wrappers as one line of the table, such as `npo+sam+gru`."""

from collections.abc import Mapping
from typing import NamedTuple

from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Guard
from expunge.optim.describe import TABLES
from expunge.utils.registry import unknown

JOIN = "+"


class MethodSpec(NamedTuple):
    """What a name of the table stands for."""

    method: str
    wrappers: Mapping[str, str]
    """Table of the settings to the name of the wrapper; no wrapper stands in two tables."""


def parse_method_spec(name: str) -> MethodSpec:
    """Read the name of a method with its wrappers, `METHOD+WRAPPER+...`.

    Raises:
        UsageError: No such method or wrapper, two wrappers for one place, or a method that has no
            gradients to wrap.
    """
    method, *words = name.split(JOIN)
    if isinstance(build(method, {}), Edit | Guard) and words:
        raise UsageError(
            "nothing-to-wrap",
            what=f"{name} wraps {method}, which does not train",
            why="wrappers work on the gradients of training",
            fix=f"name {method} alone",
        )
    found: dict[str, str] = {}
    for word in words:
        table = next((table for table, (kinds, _) in TABLES.items() if word in kinds), None)
        if table is None:
            every = [name for kinds, _ in TABLES.values() for name in kinds]
            raise unknown("wrapper", word, every, otherwise="name one of these after a +")
        if table in found:
            raise UsageError(
                "two-wrappers",
                what=f"{name} names two wrappers for {table}: {found[table]} and {word}",
                why=f"a run has one {table}",
                fix="name one of them, or each in a method of its own",
            )
        found[table] = word
    return MethodSpec(method, found)
