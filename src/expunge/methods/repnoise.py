"""RepNoise: turn the states of forget text into noise at every depth (arXiv:2405.14577).

    L = (1/N_a) sum_t -log p(y_t | x_a)                                  alternative answers
      + beta   (1/K) sum_l (1/B) sum_i MMD^2(m_l(x_i), N(0, I))          noise
      - ascent (1/K) sum_l (1/B) sum_i log(1 + mu_l(x_i))                ascent
      + alpha  (1/N_r) sum_t -log p(y_t | x_r)                           retain

over K blocks l and B forget records i. m_l are the outputs of the MLP of block l at the positions
that predict scored tokens; mu_l is the record's mean NLL per token in nats, read off block l
through the final norm and the head (logit lens).

MMD (file mmd.py) has five fixed bandwidths, and its expectations over the Gaussian are exact. It
couples the states that it compares, so it is taken within each record, and the loss does not depend
on how a step is cut into batches.

Differs from published code: that draws one Gaussian sample per record, compares flattened records
within a batch (so it needs more than one) with bandwidths taken from the batch, and adds hooks at
every call (trap T17); it takes one logarithm of the mean over records and layers. A retain term is
added.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.blocks import blocks
from expunge.methods.mmd import noise_distance
from expunge.methods.retain import nll, retain_terms
from expunge.methods.terms import (
    Answers,
    Likelihood,
    Recipe,
    Representation,
    Shape,
    Stream,
    Term,
    Trains,
)


def to_noise(states: Tensor, _reference: Tensor | None) -> Tensor:
    """Return MMD^2 between the T states of one record and N(0, I); [T, d] -> scalar."""
    return noise_distance(states)


def bounded_ascent(answers: Answers) -> Tensor:
    """Return -sum_i log(1 + mu_i); mu [B] nats per token -> scalar."""
    return -answers.mean_nll.log1p().sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class RepNoise:
    """Answer otherwise, and leave noise where the old answer was prepared."""

    family: ClassVar[str] = "representation"
    advice: ClassVar[str] = "for harmful answers that fine-tuning must not bring back; needs tuning"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=2e-5, lr_lora=5e-4)

    beta: float = 0.001
    ascent: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"
    layers: str = ""
    """Blocks, separated by commas; empty: all of them."""

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the alternative, noise, ascent and retain terms."""
        forget = (Stream.FORGET,)
        layers = blocks(shape, self.layers, tuple(range(shape.layers)))
        answer = Likelihood(
            name="forget", streams=(Stream.ALTERNATIVE,), coef=1.0, per="token", loss=nll
        )
        noise = [
            Representation(
                name=f"forget-noise-{layer}",
                streams=forget,
                coef=self.beta / len(layers),
                layer=layer,
                loss=to_noise,
                site="mlp",
                per="sequence",
            )
            for layer in layers
        ]
        ascent = [
            Likelihood(
                name=f"forget-ascent-{layer}",
                streams=forget,
                coef=self.ascent / len(layers),
                per="sequence",
                loss=bounded_ascent,
                layer=layer,
            )
            for layer in layers
        ]
        return (answer, *noise, *ascent, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
