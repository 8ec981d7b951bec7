"""ELM: erase what makes an expert's text likelier than a novice's (arXiv:2410.02760).

    L = gamma (1/N_f) sum_t KL(q_t || p_t) + alpha L_retain + fluency (1/N_a) sum_t -log p(a_t)
    log q_t = log p_ref(. | x) + eta_t (log p_ref(. | novice, x) - log p_ref(. | expert, x)) + const
    eta_t = start + (end - start) min(1, t / ramp)

Log-probabilities are taken at `temperature`, and q keeps its `top` largest tokens.

Differs from published code: novice and expert are fixed sentences, so targets are computed once
(there, a random pair a step, trap T27); eta rises over `ramp` tokens, not over each text; the
retain term is `kl` by default, as in the paper, not `argmax` (trap T27); fluency is learnt on given
alternatives, not on the original's own change of subject; no choice of blocks (there, 4 to 7).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import (
    Distribution,
    Likelihood,
    Predictions,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
)
from expunge.methods.retain_losses import kl, nll, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class ELM:
    """Erasure of language memory: distillation against an expert, retention and fluency."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "for domains of knowledge; a passage needs an alternative, or fluency 0"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=5e-5)

    start: float = 1.0
    end: float = 1000.0
    ramp: int = 150
    temperature: float = 1.2
    top: int = 50
    gamma: float = 1.0
    alpha: float = 1.0
    fluency: float = 1.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the erasing term, the retain term, and the fluency term."""
        frames = (Stream.FORGET, Stream.NOVICE, Stream.EXPERT)
        erase = Distribution(
            name="forget", streams=frames[:1], coef=self.gamma, loss=self._erase, references=frames
        )
        fluency = Likelihood(
            name="fluency", streams=(Stream.ALTERNATIVE,), coef=self.fluency, per="token", loss=nll
        )
        terms = (erase, *retain_terms(self.retain, self.alpha))
        return (*terms, fluency) if self.fluency else terms

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def erased(self, seen: Predictions) -> Tensor:
        """Return log q up to a constant, [n, V]; outside the largest `top` as low as can be."""
        log_ps = (torch.log_softmax(kept / self.temperature, dim=-1) for kept in seen.references)
        original, novice, expert = log_ps
        share = (seen.places / self.ramp).clamp(max=1)
        eta = self.start + (self.end - self.start) * share.unsqueeze(-1)
        edited = original + eta * (novice - expert)
        least = edited.topk(min(self.top, edited.shape[-1])).values[:, -1:]
        # Not -inf: zero times that, in a divergence, is not a number.
        return edited.masked_fill(edited < least, torch.finfo(edited.dtype).min)

    def _erase(self, seen: Predictions) -> Tensor:
        return kl(seen.logits, self.erased(seen))
