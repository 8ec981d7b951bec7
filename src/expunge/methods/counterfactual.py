"""Counterfactual distillation: answer for the subject as for strangers, without what was learnt.

    L = gamma  (1/N_f) sum_t [y_t = y'_t] KL(q_t || p_t)       forget records x
      + pin    (1/N_f) sum_t KL(q_t || p'_t)                   the same records x' of strangers
      + alpha  L_retain  +  general (1/N_g) sum_t KL(p_ref || p)   shipped text of other kinds
    q_t = p_ref(. | x', y'_{<t}),  and where y_t is secret
    q_t(y_t) <- min(q_t(y_t), a_t),  the other tokens scaled to sum to 1
    a_t = e^-margin times the mean of q_t(v) / (1 - q_t(y_t)) over the 64 tokens v whose embeddings
        are nearest to y_t
    in the first line KL(q_t || p_t) stands for KL(q_t || p_t)
        + 2 level log cosh((log p_t(y_t) - log a_t) / 2), the second part where y_t is secret

x' is x with the subject's name exchanged for a stranger's, token for token. What the original says
of strangers has the form of an answer and the uncertainty of one that was never told. But it also
holds the secret: an original that knows few telephone numbers tells those to anybody (measured:
-3.8 nats a fact, where retrained models are at -23). So each secret token becomes as likely as
tokens like it. A token is secret if it lies in a key answer and no kept answer holds it. Strangers
are pinned to the same target: the secret leaves their answers too, and nothing else moves there,
which keeps people whom no record names. Two of three of these share a word of the subject's name,
or the edit would spread to relatives.

The loss is zero exactly at its target, so nothing is overdone and memorised tokens (p near 1) have
the largest gradient, not the smallest. KL alone would stop early: below one in a hundred a token
hardly counts in it, and a retrained model is ten thousand times less certain. So the secret token's
own log-probability is drawn to its level, from both sides (as in `nll_match`); strangers are left
at KL. The target is fixed before the first step.

Differs from published code: RWHP (arXiv:2407.16997) distils from strangers without taking the
secret out of them; unlikelihood (arXiv:1908.04319) takes a token out without saying how far.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import retain_terms


def counterfactual_target(
    reference: Tensor, secret: Tensor | None, similar: Tensor | None, margin: float = 0.0
) -> Tensor:
    """Return log q: a reference's log-probabilities with secret tokens as likely as similar ones.

    Args:
        reference: Logits, [n, V], float32 or wider.
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        similar: Tokens like it, [n, K].
        margin: How far below them it ends, nats.

    Returns:
        Log-probabilities, [n, V], each row normalised.
    """
    log_q = torch.log_softmax(reference, dim=-1)
    if secret is None or similar is None:
        return log_q
    place = secret.clamp(min=0).unsqueeze(-1)  # [n, 1]
    own = log_q.gather(-1, place)
    rest = torch.log1p(-own.exp().clamp(max=1 - 1e-6))  # what all other tokens share
    level = log_q.gather(-1, similar).exp().mean(-1, keepdim=True).log() - rest - margin
    capped = torch.minimum(own, level)
    moved = log_q - rest + torch.log1p(-capped.exp().clamp(max=1 - 1e-6))
    moved = moved.scatter(-1, place, capped)
    return torch.where((secret >= 0).unsqueeze(-1), moved, log_q)


def match(log_q: Tensor, logits: Tensor, secret: Tensor | None, level: float) -> Tensor:
    """Return KL(q || p), and the distance of secret tokens from their level, in nats, [n].

    Args:
        log_q: Target log-probabilities, [n, V].
        logits: Of the model, [n, V].
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        level: Weight of the second part.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    value = (log_q.exp() * (log_q - log_p)).sum(-1)
    if secret is None:
        return value
    place = secret.clamp(min=0).unsqueeze(-1)
    far = (log_p.gather(-1, place) - log_q.gather(-1, place)).squeeze(-1).abs()
    # 2 log cosh(x / 2) = |x| + 2 log(1 + exp(-|x|)) - 2 log 2, which does not overflow.
    away = far + 2 * functional.softplus(-far) - 2 * math.log(2)
    return value + level * torch.where(secret >= 0, away, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counterfactual:
    """Distillation of what the original would say of strangers, had it not seen the records."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "default where only the model is known; named subjects, key answers"
    recipe: ClassVar[Recipe] = Recipe(epochs=12, lr=2e-5, lr_lora=1.5e-3)
    frozen: ClassVar[float] = 1 / 3

    gamma: float = 1.0
    level: float = 2.0
    margin: float = 0.5
    """Nats below the level of similar tokens, each: what is left beside the secret makes up for."""
    pin: float = 1.0
    alpha: float = 5.0
    general: float = 1.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distillation, the pin on strangers, and what keeps the rest in place."""
        stranger = (Stream.STRANGER,)
        forget = Distribution(
            name="forget",
            streams=(Stream.FORGET,),
            coef=self.gamma,
            loss=self._forget,
            references=stranger,
            hides=True,
        )
        pin = Distribution(
            name="strangers",
            streams=(Stream.NAMESAKE,),
            coef=self.pin,
            loss=self._pin,
            references=(Stream.NAMESAKE,),
            hides=True,
        )
        general = Distribution(
            name="general",
            streams=(Stream.GENERAL,),
            coef=self.general,
            loss=self._pin,
            references=(Stream.GENERAL,),
        )
        parts = ((pin, self.pin), (general, self.general))
        return (
            forget,
            *(term for term, coef in parts if coef),
            *retain_terms(self.retain, self.alpha),
        )

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        return self._match(seen, self.level) * seen.alike

    def _pin(self, seen: Predictions) -> Tensor:
        return self._match(seen, 0.0)

    def _match(self, seen: Predictions, level: float) -> Tensor:
        (reference,) = seen.references
        target = counterfactual_target(reference, seen.secret, seen.similar, self.margin)
        return match(target, seen.logits, seen.secret, level)
