"""JensUn: Jensen-Shannon divergences on both sides (arXiv:2509.02820).

    L = gamma (1/N) sum_t JSD(p_t, one-hot at k_t)  +  alpha (1/N_r) sum_t JSD(p_t, p_ref)
    JSD(p, one-hot at k) = log 2 + (p_k log p_k - (1 + p_k) log(1 + p_k)) / 2

Both lie in 0 to log 2 nats, so neither side runs away. The first depends on p_k alone, with weight
(p_k / 2) log(p_k / (1 + p_k)) on grad log p_k: weak while k is improbable. k_t is token t of the
alternative answer, or with `token` that token at every place of the forget answer, as in the paper.

Differs from published code: that puts mass one on each of two tokens at once, which is no
distribution, at prompt and padding too, and swaps two of its token ids (trap T16).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, log_softmax

from expunge.errors import UsageError
from expunge.methods.base import (
    Answers,
    Distribution,
    Predictions,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
    forget_term,
)
from expunge.methods.retain_losses import retain_terms


def jsd_to_token(logp: Tensor) -> Tensor:
    """Return JSD(p, one-hot at k) from log p_k; [n] nats -> [n] nats."""
    p = logp.exp()
    return math.log(2) + (p * logp - (1 + p) * p.log1p()) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class JensUn:
    """Bounded divergences, to a refusal and to the original."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "bounded on both sides, stands long training; slow to start"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    token: int = -1
    """Id of the token wanted in place of the answer; -1: the alternative answer."""
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "jsd"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the divergence to what is wanted and the divergence to the original."""
        return (self._wanted(shape), *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _wanted(self, shape: Shape) -> Term:
        streams = (Stream.ALTERNATIVE,) if self.token == -1 else (Stream.FORGET,)
        if self.token == -1:
            return forget_term(self._answer, self.gamma, per="token", streams=streams)
        if self.token < 0 or 0 < shape.vocabulary <= self.token:  # 0: not known yet
            raise UsageError(
                "no-such-token",
                what=f"the model has no token {self.token}",
                why="tokens are numbered from 0 to the size of the vocabulary less one",
                fix="choose one of these, or leave the token out",
            )
        return Distribution(name="forget", streams=streams, coef=self.gamma, loss=self._token)

    def _answer(self, answers: Answers) -> Tensor:
        return jsd_to_token(answers.logp).sum()

    def _token(self, seen: Predictions) -> Tensor:
        return jsd_to_token(log_softmax(seen.logits, dim=-1)[:, self.token])
