"""Counterfactual distillation: answer for the subject as for strangers, without what was learnt.

    L = gamma  (1/N_f) sum_t d(q_t, p_t)                    forget records x
      + pin    (1/N_f) sum_t KL(q_t || p'_t)                the same records x' of strangers
      + alpha  L_retain  +  general (1/N_g) sum_t KL(p_ref || p)   shipped text of other kinds
      + others (1/N_o) sum_t -log p(o_t)   or teach, of what the request says to answer instead
    d = KL(q_t || p_t) + 2 level log cosh((log p_t(y_t) - log q_t(y_t)) / 2)

x' is x with a stranger's name for the subject's, token for token; q_t is `counterfactual_target`.
Retained are given records, and the original's answers to `replay` more questions about them.
o is what it answers to the question of x about subjects that stay, where that states nothing of x.
Differs from RWHP (arXiv:2407.16997), whose strangers tell secrets and whose names stay.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.counterfactual_target import counterfactual_target, exchanged, match
from expunge.methods.retain_losses import lesson_terms, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Counterfactual:
    """Distillation of what the original says of strangers."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "default where only the model is known"
    recipe: ClassVar[Recipe] = Recipe(epochs=16, lr=2e-5, lr_lora=1.5e-3)
    frozen: ClassVar[float] = 1 / 3
    robust: ClassVar[str] = "rounding"  # 4 bits would undo the small update of an adapter

    gamma: float = 1.0
    level: float = 2.0
    margin: float = 1.0  # nats below what is expected of a secret token
    power: float = 2.0  # of the probability of tokens that are not secret
    pin: float = 1.0
    alpha: float = 6.5
    general: float = 3.0
    replay: int = 64  # most questions
    others: float = 0.5  # of answers that keep the form of one
    teach: float = 0.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return distillation, pin on strangers, lesson, and what keeps the rest in place."""
        pairs = (
            ("forget", Stream.FORGET, Stream.STRANGER, self.gamma, self._forget),
            ("strangers", Stream.NAMESAKE, Stream.NAMESAKE, self.pin, self._match),
            ("general", Stream.GENERAL, Stream.GENERAL, self.general, self._match),
        )
        own = tuple(
            Distribution(
                name=name,
                streams=(stream,),
                coef=coef,
                loss=loss,
                references=(reference,),
                hides=stream is not Stream.GENERAL,
            )
            for name, stream, reference, coef, loss in pairs
            if coef or stream is Stream.FORGET
        )
        lesson = lesson_terms(self.teach) or lesson_terms(self.others, Stream.OTHERS)
        return (*own, *lesson, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""

    def _forget(self, seen: Predictions) -> Tensor:
        return self._match(seen, self.level, torch.where(seen.alike, self.power, 1.0).unsqueeze(-1))

    def _match(self, seen: Predictions, level: float = 0.0, power: Tensor | float = 1.0) -> Tensor:
        known = exchanged(seen.references[0], seen.targets, seen.others[0])
        how = (seen.secret, seen.similar, self.margin, power, seen.expected)
        target = counterfactual_target(known, seen.targets, *how)
        return match(target, seen.logits, seen.targets, level)
