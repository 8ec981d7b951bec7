"""What a wrapper is for, and how it is named in a request."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from expunge.config.catalogue import WrapperDescription, file_of
from expunge.optim import COMBINE, MASKS, OPTIMISERS, ROBUST
from expunge.optim.base import Combine, Mask, Optimiser, Robust

Wrapper = type[Robust] | type[Combine] | type[Mask] | type[Optimiser]

TABLES: Mapping[str, tuple[Mapping[str, Wrapper], str]] = {
    "robust": (ROBUST, "how the forget gradient is taken"),
    "combine": (COMBINE, "how forget and retain gradients are joined"),
    "mask": (MASKS, "which weights may move"),
    "optimiser": (OPTIMISERS, "what steps the weights"),
}
"""Table of a request file that names the wrapper: its wrappers, and what they decide."""


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
        file=file_of(inspect.getfile(kind)),
    )


def described_wrappers() -> list[WrapperDescription]:
    """Describe every wrapper, table by table."""
    return [describe_wrapper(table, name) for table, (kinds, _) in TABLES.items() for name in kinds]
