"""The wrappers: optional operations between a method's loss and the step, one file each.

`ROBUST`, `COMBINE`, `MASKS` and `OPTIMISERS` are the whole list. A wrapper from elsewhere is named
`package.module:Class`. `TABLES` says how a request names them, and what each decides.
"""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TypeVar

from expunge.config.catalogue import WrapperDescription, file_of
from expunge.errors import UsageError
from expunge.optim.base import Combine, Mask, Optimiser, Robust
from expunge.optim.combine.blur import Blur
from expunge.optim.combine.gru import GRU
from expunge.optim.combine.ngdiff import NGDiff
from expunge.optim.masks.memflex import MemFlex
from expunge.optim.masks.random_mask import RandomMask
from expunge.optim.masks.saliency import Saliency
from expunge.optim.masks.wagle import Wagle
from expunge.optim.optimizers.adamw import AdamW
from expunge.optim.optimizers.adamw_8bit import AdamW8bit
from expunge.optim.optimizers.normalized_sgd import NormalisedSGD
from expunge.optim.optimizers.sophia import Sophia
from expunge.optim.robust.gradient_norm import GradientNorm
from expunge.optim.robust.lat import LAT
from expunge.optim.robust.mudman import Mudman
from expunge.optim.robust.randomized_smoothing import RandomizedSmoothing
from expunge.optim.robust.rounded_weights import RoundedWeights
from expunge.optim.robust.sam import SAM
from expunge.utils.registry import build_named

Kind = TypeVar("Kind")

ROBUST: dict[str, type[Robust]] = {
    "sam": SAM,
    "noise": RandomizedSmoothing,
    "gradient-norm": GradientNorm,
    "mudman": Mudman,
    "lat": LAT,
    "rounding": RoundedWeights,
}
COMBINE: dict[str, type[Combine]] = {
    "gru": GRU,
    "blur": Blur,
    "ngdiff": NGDiff,
}
MASKS: dict[str, type[Mask]] = {
    "wagle": Wagle,
    "saliency": Saliency,
    "memflex": MemFlex,
    "random": RandomMask,
}
OPTIMISERS: dict[str, type[Optimiser]] = {
    "adamw": AdamW,
    "adamw8bit": AdamW8bit,
    "sophia": Sophia,
    "normalised-sgd": NormalisedSGD,
}


def build_wrapper(
    table: Mapping[str, type[Kind]], name: str, parameters: Mapping[str, object], *, what: str
) -> Kind | None:
    """Make a wrapper from its name and hyperparameters; None for the name `none`.

    Args:
        table: One of the tables of this module.
        name: A key of `table`, `package.module:Class`, or `none`.
        parameters: The wrapper's hyperparameters.
        what: The table of the settings that holds it: robust, combine, mask or optimiser.

    Raises:
        UsageError: No such wrapper or hyperparameter, a value that does not work, or a value for
            no wrapper.

    Example:
        >>> build_wrapper({"gru": GRU}, "gru", {}, what="combine") == GRU()
        True
    """
    if name != "none":
        return build_named(table, name, parameters, what=what)
    if parameters:
        first = next(iter(parameters))
        raise UsageError(
            "parameter-without-name",
            what=f"{what}.{first} is set, but no {what} is chosen",
            why=f"[{what}] has no effect without a name",
            fix=f"set {what}.name to {', '.join(table)}, or leave {what}.{first} out",
        )
    return None


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
