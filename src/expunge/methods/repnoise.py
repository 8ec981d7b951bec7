"""RepNoise: turn the states of forget text into noise at every depth (arXiv:2405.14577).

    L = (1/N_a) sum_t -log p(y_t | x_a)                                  alternative answers
      + beta   (1/K) sum_l (1/B) sum_i MMD^2(m_l(x_i), N(0, I))          noise
      - ascent (1/K) sum_l (1/B) sum_i log(1 + mu_l(x_i))                ascent
      + alpha  (1/N_r) sum_t -log p(y_t | x_r)                           retain

over K blocks l and B forget records i. m_l are the outputs of the MLP of block l at the positions
that predict scored tokens; mu_l is the record's mean NLL per token in nats, read off block l
through the final norm and the head (logit lens). MMD (file hidden_states.py) couples the states
that it compares; it is taken within each record, so that no cut into batches changes the loss.

Differs from published code: that draws one Gaussian sample per record, compares flattened records
within a batch with bandwidths taken from it, and adds hooks at every call (trap T17); it takes one
logarithm of the mean over records and layers. A retain term is added.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import (
    Answers,
    Recipe,
    Representation,
    Shape,
    Stream,
    Term,
    Trains,
    forget_term,
)
from expunge.methods.hidden_states import blocks, noise_distance
from expunge.methods.retain_losses import nll, retain_terms


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
        layers = blocks(shape, self.layers, tuple(range(shape.layers)))
        noise = Representation(
            name="forget-noise",
            streams=(Stream.FORGET,),
            coef=self.beta / len(layers),
            layer=0,
            loss=lambda states, _reference: noise_distance(states),
            site="mlp",
            per="sequence",
        )
        ascent = forget_term(bounded_ascent, self.ascent / len(layers), per="sequence")
        return (
            forget_term(nll, 1.0, per="token", streams=(Stream.ALTERNATIVE,)),
            *(replace(noise, name=f"forget-noise-{at}", layer=at) for at in layers),
            *(replace(ascent, name=f"forget-ascent-{at}", layer=at) for at in layers),
            *retain_terms(self.retain, self.alpha),
        )

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
