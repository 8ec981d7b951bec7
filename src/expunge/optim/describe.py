"""What a wrapper is for and how it is named in a request, its formula read off its own file."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass

from expunge.optim import COMBINE, MASKS, OPTIMISERS, ROBUST
from expunge.optim.base import Combine, Mask, Optimiser, Robust
from expunge.utils.docstrings import flowing

Wrapper = type[Robust] | type[Combine] | type[Mask] | type[Optimiser]

TABLES: Mapping[str, tuple[Mapping[str, Wrapper], str]] = {
    "robust": (ROBUST, "how the forget gradient is taken"),
    "combine": (COMBINE, "how forget and retain gradients are joined"),
    "mask": (MASKS, "which weights may move"),
    "optimiser": (OPTIMISERS, "what steps the weights"),
}
"""Table of a request file that names the wrapper: its wrappers, and what they decide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrapperDescription:
    """A wrapper as a user chooses it."""

    name: str
    table: str
    """Table of the request file that names it."""
    advice: str
    defaults: tuple[tuple[str, object], ...]
    formula: str
    """The text of its file."""


def describe_wrapper(table: str, name: str) -> WrapperDescription:
    """Describe a wrapper with its hyperparameters at their defaults.

    Args:
        table: A key of `TABLES`.
        name: One of its wrappers.

    Example:
        >>> describe_wrapper("combine", "gru").name
        'gru'
    """
    kind = TABLES[table][0][name]
    assert is_dataclass(kind), "wrappers are frozen dataclasses"
    return WrapperDescription(
        name=name,
        table=table,
        advice=kind.advice,
        defaults=tuple((field.name, field.default) for field in fields(kind)),
        formula=flowing(inspect.getdoc(sys.modules[kind.__module__]) or ""),
    )


def described_wrappers() -> list[WrapperDescription]:
    """Describe every wrapper, table by table."""
    return [describe_wrapper(table, name) for table, (kinds, _) in TABLES.items() for name in kinds]
