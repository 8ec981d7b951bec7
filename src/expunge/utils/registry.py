"""Things with a name and hyperparameters, such as methods: tables of dataclasses, and errors."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TypeVar, cast, get_type_hints

from expunge.errors import UsageError

Kind = TypeVar("Kind")
OR_OWN = "choose one of these, or package.module:Class"
"""What to do about a name that is near to none."""


def build_named(
    table: Mapping[str, type[Kind]], name: str, parameters: Mapping[str, object], *, what: str
) -> Kind:
    """Make a thing from its name and hyperparameters.

    Args:
        table: The known kinds, frozen dataclasses.
        name: A key of `table` or `package.module:Class`.
        parameters: Values for fields of the dataclass; numbers are converted to the field's type.
        what: What it is, for messages, and the table of the settings that holds it.

    Raises:
        UsageError: No such name, no such hyperparameter, or a value of the wrong type.
    """
    kind = table.get(name) or _imported(table, name, what)
    assert is_dataclass(kind), f"a {what} of the table is a frozen dataclass"
    known = {field.name: field for field in fields(kind)}
    types = get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in parameters.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise UsageError(
                "unknown-parameter",
                what=f"{what} {name} has no parameter {key}",
                why=f"it has {', '.join(known) or 'none'}",
                fix=f"did you mean {near[0]}?" if near else "leave it out",
            )
        values[key] = _convert(f"{what} {name}", key, value, types[key])
    missing = [
        field.name
        for field in known.values()
        if field.default is MISSING
        and field.default_factory is MISSING
        and field.name not in values
    ]
    if missing:
        raise UsageError(
            "missing-parameter",
            what=f"{what} {name} needs {', '.join(missing)}",
            why="it has no default",
            fix=f"set {missing[0]} in [{what}]",
        )
    return kind(**values)


def require_known(what: str, name: str, known: Sequence[str], *, otherwise: str) -> None:
    """Refuse a name that is none of those known; the arguments are those of `unknown`.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in known:
        raise unknown(what, name, known, otherwise=otherwise)


def unknown(what: str, name: str, known: Iterable[str], *, otherwise: str) -> UsageError:
    """Return the error for a name that is none of those known, with the nearest one.

    Args:
        what: What it is a name of.
        name: What was given.
        known: All names.
        otherwise: What to do where none is near.
    """
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    return UsageError(
        f"unknown-{what}",
        what=f"there is no {what} {name}",
        why=f"expunge knows {', '.join(names)}",
        fix=f"did you mean {near[0]}?" if near else otherwise,
    )


def imported(module: str, attribute: str) -> object:
    """Return what a module calls by a name; the current folder is looked in as well.

    Raises:
        ImportError: There is no such module.
        KeyError: It has nothing of that name.
        ValueError: The name of the module is empty.
    """
    here = str(Path.cwd())  # a console script does not look there by itself
    sys.path.append(here)
    try:
        return vars(import_module(module))[attribute]
    finally:
        sys.path.remove(here)


def _imported(table: Mapping[str, type[Kind]], name: str, what: str) -> type[Kind]:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise unknown(what, name, table, otherwise=OR_OWN)
    try:
        found = imported(module, attribute)
    except Exception as error:  # the module is the user's: it may raise anything
        raise UsageError(
            f"unknown-{what}",
            what=f"cannot import {attribute} from {module}",
            why=f"{type(error).__name__}: {error}",
            fix=_moved(table, attribute)
            or "give package.module:Class of something importable, or a file in this folder",
        ) from error
    if not isinstance(found, type) or not is_dataclass(found):
        raise UsageError(
            f"unknown-{what}",
            what=f"{name} is no {what}",
            why=f"a {what} is a frozen dataclass",
            fix="see `Add a method` in CONTRIBUTING.md",
        )
    return cast("type[Kind]", found)


def _moved(table: Mapping[str, type[object]], attribute: str) -> str | None:
    """Say where a class of ours is now, which was asked for in a module that has gone."""
    for name, kind in table.items():
        if kind.__name__ == attribute:
            return f"use {name}: its class is in {kind.__module__} now"
    return None


def _convert(owner: str, key: str, value: object, kind: type) -> object:
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # the only block of a list of blocks
    if kind in (int, float) and isinstance(value, int | float | str):
        try:
            number = kind(value)
        except (ValueError, OverflowError):
            number = None
        if number is not None and not isinstance(value, bool) and _is_same(number, value):
            return number
    raise UsageError(
        "wrong-parameter",
        what=f"{key} = {value} does not suit {owner}",
        why=f"{key} must be {kind.__name__}",
        fix=f"give a value of that kind, or leave it out for the default of {owner}",
    )


def _is_same(number: float, value: float | str) -> bool:
    """Tell whether a conversion has lost nothing."""
    return isinstance(value, str) or number == value
