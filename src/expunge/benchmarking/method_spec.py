"""Composed names: a method with wrappers as one line of the table, such as `npo+sam+gru`."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from expunge.config.resolve import code_from_file, names_code
from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Guard
from expunge.optim import TABLES
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


def require_named_code(
    name: str, values: Mapping[str, Any], *, origin: str, named: Collection[str]
) -> None:
    """Refuse code to import that a file of a matrix names, unless the user names it as well.

    Args:
        name: A name of the table.
        values: Its settings by key path.
        origin: The file.
        named: The methods that the command names.

    Raises:
        UsageError: `code-from-file`.
    """
    method, *_ = name.split(JOIN)
    if names_code("method.name", method) and name not in named:
        fix = f"if you trust that code, name it yourself: --methods {name}"
        raise code_from_file("method.name", method, origin, fix=fix)
    for path, value in values.items():
        if names_code(path, value):
            raise code_from_file(path, str(value), origin, fix=f"leave {path} out there")
