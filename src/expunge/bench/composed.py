"""Composed names: a method with wrappers as one line of the table, such as `npo+sam+gru`."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.edits.protocol import Edit
from expunge.methods.guards.protocol import Guard
from expunge.wrappers import COMBINE, MASKS, OPTIMISERS, ROBUST

JOIN = "+"
TABLES: Mapping[str, Mapping[str, object]] = {
    "robust": ROBUST,
    "combine": COMBINE,
    "mask": MASKS,
    "optimiser": OPTIMISERS,
}
"""Table of the settings to the wrappers that it may name; no wrapper stands in two."""


class Composed(NamedTuple):
    """What a name of the table stands for."""

    method: str
    wrappers: Mapping[str, str]
    """Table of the settings to the name of the wrapper."""


def parted(name: str) -> Composed:
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
        table = next((table for table, known in TABLES.items() if word in known), None)
        if table is None:
            raise _unknown(word)
        if table in found:
            raise UsageError(
                "two-wrappers",
                what=f"{name} names two wrappers for {table}: {found[table]} and {word}",
                why=f"a run has one {table}",
                fix="name one of them, or each in a method of its own",
            )
        found[table] = word
    return Composed(method, found)


def _unknown(word: str) -> UsageError:
    known = [name for table in TABLES.values() for name in table]
    near = get_close_matches(word.lower(), known, n=1)
    return UsageError(
        "unknown-wrapper",
        what=f"there is no wrapper {word}",
        why=f"expunge knows {', '.join(known)}",
        fix=f"did you mean {near[0]}?" if near else "name one of these after a +",
    )
