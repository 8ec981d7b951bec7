"""The algebra: a method is a sum of terms, and a term is one of three kernels.

    L = sum over terms of  coef * (1 / count) * sum over records or tokens of loss(observed, target)

- `Likelihood` (W): a function of log-probabilities of target tokens; its gradient is a weighted
  token NLL. GA, NPO, SimNPO, DPO, IDK, retain NLL.
- `Distribution` (D): a function of whole next-token distributions, of the model and of the
  original. KL-retain, UNDIAL, maximum entropy.
- `Representation` (R): compares hidden states after one block with a target. RMU.

Losses return sums, never means. The engine divides by the count over the whole optimiser step, so a
loss does not depend on how a step is cut into batches, padded, or accumulated. Forget and retain
are only streams with different targets and signs.

Checks of the parameters of methods and wrappers.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from expunge.errors import UsageError

Per = Literal["token", "sequence"]
"""What a term is averaged over, across the whole optimiser step."""
Side = Literal["forget", "retain"]


class Stream(StrEnum):
    """Where records come from. All but `FORGET` and `RETAIN` are variants of these two, in step."""

    FORGET = "forget"
    RETAIN = "retain"
    ALTERNATIVE = "alternative"
    """The prompts of the forget records with the answer wanted instead."""
    MISMATCH = "mismatch"
    """The prompts of the forget records with the answer to another question."""
    NOISE = "noise"
    """The prompts of the forget records with random tokens, as many as the answer has."""
    NOVICE = "novice"
    """The forget records after a sentence that presents their writer as a novice."""
    EXPERT = "expert"
    """The forget records after a sentence that presents their writer as an expert."""
    STRANGER = "stranger"
    """The forget records with a counterfactual subject, whom no model knows, token for token."""
    NAMESAKE = "namesake"
    """The same; two of three counterfactual subjects share a word of the subject's name."""
    OTHERS = "others"
    """The prompts of the forget records with what the original answers about kept subjects."""
    UNANSWERABLE = "unanswerable"
    """Unanswerable questions, about things that do not exist."""
    REFUSED = "refused"
    """The prompts of the retain records with a refusal."""
    FLIPPED_TURN = "flipped turn"
    """Forget questions with the answer to another, as an earlier turn of a conversation."""
    TURN = "turn"
    """Retain records as an earlier turn of a conversation."""
    GENERAL = "general"
    """Pieces of the passages that ship with expunge, as many as retain records."""

    @property
    def side(self) -> Side:
        """Which of the two sets it belongs to."""
        kept = (Stream.RETAIN, Stream.REFUSED, Stream.TURN, Stream.GENERAL)
        return "retain" if self in kept else "forget"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Input of a likelihood loss: N scored tokens of B sequences of one stream and batch.

    Example:
        >>> import torch
        >>> one = torch.zeros(2, dtype=torch.long)
        >>> Answers(logp=torch.tensor([-1.0, -3.0]), reference=None, sequence=one, size=1).mean_nll
        tensor([2.])
    """

    logp: Tensor
    """[N] log-probability of each scored token, float32, with gradient."""
    reference: Tensor | None
    """[N] the same under the original, without gradient; None if the term does not need it."""
    sequence: Tensor
    """[N] index in 0..B-1 of the sequence that each token belongs to, non-decreasing."""
    size: int
    """B."""
    unseen: Tensor | None = None
    """[B] NLL per token, nats, of text like each record that no model saw, never above that of
    chance; None if the term does not need it."""

    @property
    def level(self) -> Tensor:
        """[B] mean NLL per token that each record would have, had the model not seen it."""
        if self.unseen is None:
            raise AssertionError("the term did not declare that it needs the level")
        return self.unseen

    def per_sequence(self, values: Tensor) -> Tensor:
        """Sum token values by sequence, [N] -> [B], in the float32 or wider that they come in."""
        total = torch.zeros(self.size, dtype=values.dtype, device=values.device)
        return total.index_add(0, self.sequence, values)

    @property
    def lengths(self) -> Tensor:
        """[B] number of scored tokens of each sequence."""
        return torch.bincount(self.sequence, minlength=self.size)

    @property
    def mean_nll(self) -> Tensor:
        """[B] mean over scored tokens of -log p, nats per token (mu)."""
        return -self.per_sequence(self.logp) / self.lengths

    @property
    def log_ratios(self) -> Tensor:
        """[N] log p(y_t) - log p_ref(y_t)."""
        if self.reference is None:
            raise AssertionError("the term did not declare that it needs the reference")
        return self.logp - self.reference

    @property
    def log_ratio(self) -> Tensor:
        """[B] log pi(y|x) - log pi_ref(y|x), the sum over scored tokens (Delta)."""
        return self.per_sequence(self.log_ratios)


class Predictions(NamedTuple):
    """Input of a distribution loss: n positions that predict scored tokens, V tokens."""

    logits: Tensor
    """[n, V] of the model, float32 or wider, with gradient."""
    targets: Tensor
    """[n] the token that follows."""
    places: Tensor
    """[n] how many scored tokens of the same record come before it."""
    references: tuple[Tensor, ...]
    """[n, V] each: of the original, one per stream or model that the term declared."""
    others: tuple[Tensor, ...]
    """[n] each: the token that follows in each stream that was declared, one per stream."""
    secret: Tensor | None = None
    """[n] the token of the forget record here that no target may favour, -1 where there is none;
    None where no record of the batch has any."""
    similar: Tensor | None = None
    """[n, K] tokens like the secret one, see `References.similar`; None with `secret`."""
    expected: Tensor | None = None
    """[n] log-probability of the secret one that a model is expected to have which never saw the
    record, NaN where that is not known; None with `secret`."""

    @property
    def alike(self) -> Tensor:
        """[n] bool: whether the token is the same in every stream that was declared."""
        same = torch.ones_like(self.targets, dtype=torch.bool)
        for each in self.others:
            same = same & (self.targets == each)
        return same


Coefficient = float | Callable[[float], float]
"""A number, or a function of the progress of the run from 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dual:
    """A term that is a constraint `value <= limit`: its coefficient is a Lagrange multiplier.

    After every step the multiplier becomes `max(0, multiplier + rate * (value - limit))`.
    """

    limit: float
    """Largest value wanted, nats; relative to the value before training if `relative`."""
    rate: float
    start: float
    """Multiplier before the first step."""
    wait: float = 0.0
    """Share of the steps before the multiplier moves."""
    relative: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood:
    """A term of kernel W: `loss` maps the answers of each stream, in order, to a sum."""

    name: str
    streams: tuple[Stream, ...]
    coef: Coefficient
    per: Per
    loss: Callable[..., Tensor]
    needs_reference: bool = False
    needs_level: bool = False
    layer: int | None = None
    """Read the prediction off this block through the final norm and head; None: the model's."""
    dual: Dual | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A term of kernel D: `loss` maps n predictions to n values, [n]."""

    name: str
    streams: tuple[Stream]
    coef: Coefficient
    loss: Callable[[Predictions], Tensor]
    references: tuple[Stream, ...] = ()
    """Streams on which the original's distribution is wanted, at the same answer tokens."""
    reinforced: bool = False
    """Add, as last reference, the original after memorising the forget set even better."""
    hides: bool = False
    """Whether the loss takes secret tokens out of its target (`Predictions.secret`)."""
    layer: int | None = None
    """Read the prediction off this block through the final norm and head; None: the model's."""
    per: Literal["token"] = "token"
    dual: Dual | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """A term of kernel R: `loss(states, reference)` on states at one block, [n, d] -> [n].

    The states are those that predict scored tokens. `reference` holds the original's states, or is
    None when the target is built into the loss.
    """

    name: str
    streams: tuple[Stream]
    coef: Coefficient
    layer: int
    loss: Callable[[Tensor, Tensor | None], Tensor]
    site: Literal["block", "mlp"] = "block"
    """The residual stream after the block, or what its MLP adds to it."""
    per: Per = "token"
    """Per sequence, the loss sees one record at a time, so that it may compare its states."""
    needs_reference: bool = False
    dual: Dual | None = None


Term = Likelihood | Distribution | Representation


def forget_term(
    loss: Callable[..., Tensor],
    coef: Coefficient,
    *,
    per: Per,
    streams: tuple[Stream, ...] = (Stream.FORGET,),
    needs_reference: bool = False,
    needs_level: bool = False,
) -> Likelihood:
    """Return the likelihood term that does the forgetting, under the name that reports show."""
    return Likelihood(
        name="forget",
        streams=streams,
        coef=coef,
        per=per,
        loss=loss,
        needs_reference=needs_reference,
        needs_level=needs_level,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The structure of the model, known before it is loaded.

    Example:
        >>> Shape(layers=12, width=768).layers
        12
    """

    layers: int
    width: int
    vocabulary: int = 0


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
    """Which weights move: modules inside a block, and blocks.

    Example:
        >>> Trains(modules=("down_proj",), first_layer=3, last_layer=5).takes("mlp.down_proj")
        True
    """

    modules: tuple[str, ...]
    """As `is_named` reads them; empty: whole blocks."""
    first_layer: int
    last_layer: int
    gaps: bool = False
    """Whether blocks without such a module are left out; each name must then be that of one."""

    def takes(self, name: str) -> bool:
        """Return whether a module, by its name inside its block, is chosen."""
        return not self.modules or is_named(name, self.modules)


def last_block(last_layer: int | None, layers: int) -> int:
    """Return the highest chosen block: the top one of `layers` where none is named.

    Example:
        >>> last_block(None, 12), last_block(3, 12)
        (11, 3)
    """
    return layers - 1 if last_layer is None else last_layer


def is_named(name: str, wanted: Sequence[str]) -> bool:
    """Tell whether a module is one of those wanted.

    Args:
        name: Its name inside its block, for example `self_attn.q_proj`.
        wanted: Such names, last parts of them (`q_proj`), or regular expressions of whole ones.

    Example:
        >>> is_named("self_attn.q_proj", ["q_proj"]), is_named("mlp.up_proj", ["q_proj"])
        (True, False)
    """
    last = name.rpartition(".")[2]
    return any(each in (name, last) or re.fullmatch(each, name) for each in wanted)


MLP_OUT = ("mlp.down_proj", "mlp.c_proj", "fc2", "mlp.dense_4h_to_h")
"""The matrix with which an MLP writes to the residual stream, as architectures name it."""
MLP_IN = ("mlp.gate_proj", "mlp.up_proj", "mlp.c_fc", "fc1", "mlp.dense_h_to_4h")
"""The matrices with which it reads."""


class Method(Protocol):
    """A named set of terms. Implementations are frozen dataclasses of their paper's parameters."""

    family: ClassVar[str]
    """A key of `FAMILIES`."""
    advice: ClassVar[str]
    """One line: when to use it."""
    recipe: ClassVar[Recipe]

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the terms of the loss for a model of this shape."""
        ...

    def trains(self, shape: Shape) -> Trains | None:
        """Return the weights to move when neither LoRA nor all weights suit the method."""
        ...


@runtime_checkable
class SelfTaught(Protocol):
    """A method whose alternatives are answers that the original itself writes before training."""

    @property
    def samples(self) -> int:
        """Answers drawn for each forget record."""
        ...

    @property
    def temperature(self) -> float:
        """Divides the logits from which they are drawn."""
        ...


@runtime_checkable
class Controlled(Protocol):
    """A method whose rate, coefficients and steps a controller sets (`training.controller`).

    It distils from counterfactual records, which show how far each record has to go.
    """

    frozen: ClassVar[float]
    """Share of the blocks, the lowest, that stay as they are where the user names no layers."""
    robust: ClassVar[str]
    """How the forget gradient of an adapter is taken where the user does not say."""


FAMILIES = {
    "ascent": "push the old answer's likelihood down",
    "preference": "make the old answer less likely than it was, or than another",
    "relabelling": "teach another answer to the same question",
    "distillation": "match an edited copy of the model's own distribution",
    "representation": "move hidden states instead of outputs",
    "edit": "solve for new values of a few matrices, without training",
    "arithmetic": "subtract what memorising the forget set adds to the weights",
    "influence": "undo the influence of the forget set by means of the curvature of the loss",
    "guard": "stand between the user and an unchanged model: suppression, never removal",
}
"""Families of methods and what their members have in common."""


def require_positive(parameter: str, value: float, table: str) -> None:
    """Refuse a parameter that is not above zero.

    Raises:
        UsageError: It is not.

    Example:
        >>> require_positive("beta", 0.1, "method")
    """
    if not value > 0:
        raise _refused(parameter, value, table, "must be larger than 0")


def require_share(parameter: str, value: float, table: str) -> None:
    """Refuse a parameter that is no share: above 0, at most 1.

    Raises:
        UsageError: It is not.

    Example:
        >>> require_share("density", 0.5, "method")
    """
    if not 0 < value <= 1:
        raise _refused(parameter, value, table, "is a share: above 0 and at most 1")


def require_word(parameter: str, value: str, table: str, words: tuple[str, ...]) -> None:
    """Refuse a parameter that is none of some words.

    Raises:
        UsageError: It is not.

    Example:
        >>> require_word("site", "mlp", "method", ("block", "mlp"))
    """
    if value not in words:
        raise _refused(parameter, value, table, f"is {' or '.join(words)}")


def _refused(parameter: str, value: object, table: str, rule: str) -> UsageError:
    return UsageError(
        "wrong-parameter",
        what=f"{parameter} = {value} does not work in [{table}]",
        why=f"{parameter} {rule}",
        fix="leave it out for the default",
    )
