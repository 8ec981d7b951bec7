"""ULD: subtract a small assistant that knows the forget set and nothing else (arXiv:2406.08607).

    assistant:  L = (1/N_f) sum_t -log p_a(y_t)  +  weight (1/N_r) sum_t KL(U || p_a)
    z'(v) = z(v) + w (log p_a(v) + log V)      if p(v) >= floor max p,  else z(v)

The assistant is the model's lower blocks under its own final norm and head, with LoRA: it learns
forget answers by heart and a uniform distribution on retain answers. Both goals are bounded. Where
it is uniform, log p_a = -log V and nothing changes.

The assistant in `guard.safetensors` recites the forget answers, and whoever has the guard can ask
it: the guard itself is personal data. It is not sealed and stays when the evidence is destroyed.

Differs from published code: its log-probabilities are added, relative to uniform, not its logits;
it is trained without paraphrases and perturbed answers; it wears its low-rank change in turns with
the model, so that the blocks are in memory once.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from expunge.methods.base import Distribution, Shape, Stream, Term, Trains, forget_term
from expunge.methods.edits.base import Passes
from expunge.methods.guards.base import GuardBench, GuardRules, Offset
from expunge.methods.maxent import uniform
from expunge.methods.retain_losses import nll


@dataclass(frozen=True, kw_only=True, slots=True)
class ULD:
    """Logits of an assistant that remembers, subtracted."""

    family: ClassVar[str] = "guard"
    advice: ClassVar[str] = "facts, behind an interface, where utility must not suffer"
    streams: ClassVar[tuple[Stream, ...]] = ()

    share: float = 0.25
    """Of the blocks, the lowest, that the assistant has (8 of 32)."""
    rank: int = 16
    lr: float = 1e-3
    epochs: int = 10
    uniformity: float = 5.0
    weight: float = -0.8
    floor: float = 0.01

    def trains(self, shape: Shape) -> Trains | None:
        """Move nothing."""
        return None

    def passes(self) -> Passes:
        """A forward pass through the assistant, and one back, each epoch."""
        return Passes(forget=self.epochs * self.share, retain=self.epochs * self.share)

    def fit(self, bench: GuardBench) -> GuardRules:
        """Train the assistant."""
        layers = max(1, math.ceil(self.share * bench.shape.layers))
        factors = bench.assistant(
            self.terms(layers - 1), layers=layers, rank=self.rank, lr=self.lr, epochs=self.epochs
        )
        offset = Offset(layers=layers, weight=self.weight, floor=self.floor, factors=factors)
        return GuardRules(offset=offset)

    def terms(self, layer: int) -> tuple[Term, ...]:
        """Return what the assistant learns, its predictions read off block `layer`."""
        retain = Distribution(
            name="retain",
            streams=(Stream.RETAIN,),
            coef=self.uniformity,
            loss=uniform,
            layer=layer,
        )
        return (replace(forget_term(nll, 1.0, per="token"), layer=layer), retain)
