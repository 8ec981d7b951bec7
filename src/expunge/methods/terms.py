"""The algebra: a method is a sum of terms, and a term is one of three kernels.

    L = sum over terms of  coef * (1 / count) * sum over records or tokens of loss(observed, target)

- `Likelihood` (W): a function of log-probabilities of target tokens; its gradient is a weighted
  token NLL. GA, NPO, SimNPO, DPO, IDK, retain NLL.
- `Divergence` (D): compares next-token distributions with those of the original. KL-retain.
- `Representation` (R): compares hidden states after one block with a target. RMU.

Losses return sums, never means. The engine divides by the count over the whole optimiser step, so a
loss does not depend on how a step is cut into batches, padded, or accumulated. Forget and retain
are only streams with different targets and signs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

Per = Literal["token", "sequence"]
"""What a term is averaged over, across the whole optimiser step."""


class Stream(StrEnum):
    """Where records come from."""

    FORGET = "forget"
    RETAIN = "retain"
    ALTERNATIVE = "alternative"
    """The prompts of the forget records with the answer wanted instead, in the same order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a likelihood loss sees of one stream in one batch: N scored tokens of B sequences."""

    logp: Tensor
    """[N] log-probability of each scored token, float32, with gradient."""
    reference: Tensor | None
    """[N] the same under the original model, without gradient; None if the term did not ask."""
    sequence: Tensor
    """[N] index in 0..B-1 of the sequence that each token belongs to, non-decreasing."""
    size: int
    """B."""

    def per_sequence(self, values: Tensor) -> Tensor:
        """Sum token values by sequence, [N] -> [B], in the float32 or wider that they come in."""
        total = torch.zeros(self.size, dtype=values.dtype, device=values.device)
        return total.index_add(0, self.sequence, values)

    @property
    def lengths(self) -> Tensor:
        """[B] number of scored tokens of each sequence."""
        return torch.bincount(self.sequence, minlength=self.size)

    @property
    def log_ratio(self) -> Tensor:
        """[B] log pi(y|x) - log pi_ref(y|x), the sum over scored tokens (Delta)."""
        if self.reference is None:
            raise AssertionError("the term did not declare that it needs the reference")
        return self.per_sequence(self.logp - self.reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood:
    """A term of kernel W: `loss` maps the answers of each stream, in order, to a sum."""

    name: str
    streams: tuple[Stream, ...]
    coef: float
    per: Per
    loss: Callable[..., Tensor]
    needs_reference: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """A term of kernel D: `loss(logits, reference_logits)`, both [n, V] float32, gives [n]."""

    name: str
    streams: tuple[Stream]
    coef: float
    loss: Callable[[Tensor, Tensor], Tensor]
    per: Literal["token"] = "token"
    needs_reference: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """A term of kernel R: `loss(hidden, reference)` on states after block `layer`, [n, d] -> [n].

    The states are those that predict scored tokens. `reference` holds the original's states, or is
    None when the target is built into the loss.
    """

    name: str
    streams: tuple[Stream]
    coef: float
    layer: int
    loss: Callable[[Tensor, Tensor | None], Tensor]
    per: Literal["token"] = "token"
    needs_reference: bool = False


Term = Likelihood | Divergence | Representation


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a method may know of the model before it is loaded."""

    layers: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A method's own training defaults.

    Learning rates are those of the paper for all weights; low-rank adapters start from zero and
    need one to two orders more.
    """

    epochs: int
    lr: float
    lr_lora: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Trains:
    """Which weights a method moves when the user does not say: names inside a block, and blocks."""

    modules: tuple[str, ...]
    first_layer: int
    last_layer: int


class Method(Protocol):
    """A named set of terms. Implementations are frozen dataclasses of their paper's parameters."""

    advice: ClassVar[str]
    """One line: when to use it."""
    recipe: ClassVar[Recipe]

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the terms of the loss for a model of this shape."""
        ...

    def trains(self, shape: Shape) -> Trains | None:
        """Return the weights to move when neither LoRA nor all weights suit the method."""
        ...
