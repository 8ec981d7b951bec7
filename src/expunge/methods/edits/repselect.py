"""RepSelect: ascend along what fine-tuning would not restore (arXiv:2606.17168).

    1. teach an adapter the forget set by heart; G = grad NLL of the forget set while it is worn
    2. for each matrix, G = U S V^T:  G' has s_min^2 / s_i in place of the c largest s_i,
       where s_min is the smallest of these c
    3. repeat  W <- W + lr G' / |G'|  until the forget answers look unseen, or too much is lost

What relearning moves, the adapter has already moved, so it is no longer in G; what is left of the
directions shared by all text are the largest components, which step 2 shrinks from both sides.
|G'| is over all matrices.

Differs from published code: this is its simple variant, with one gradient for all steps. The
adapter is trained by AdamW, up to 64 records a step, not by SGD; the number of components is a
share of the smaller side (512 of 4096 for an 8B model); G' has length one, so that lr does not
depend on how well the forget set is known.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import MLP_IN, MLP_OUT, Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes, Reinforce
from expunge.methods.edits.subspace import climb, collapse, principal


def selected(gradient: Tensor, share: float) -> Tensor:
    """Return G', with the largest singular values s_i turned to s_min^2 / s_i; [m, n] -> [m, n]."""
    if gradient.shape[0] < gradient.shape[1]:
        return selected(gradient.T, share).T
    wide = gradient.double()
    components = principal(wide.T @ wide, share)
    kept = components.values[-1] / components.values  # squares of singular values: both sides
    return collapse(wide, components.directions, kept).to(gradient)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepSelect:
    """Raise the NLL of the forget set along the selective part of its gradient."""

    family: ClassVar[str] = "edit"
    advice: ClassVar[str] = "against relearning, on forget data alone; stops at the utility budget"
    streams: ClassVar[tuple[Stream, ...]] = ()

    share: float = 0.125
    lr: float = 0.05
    steps: int = 100
    relearn_steps: int = 10
    relearn_lr: float = 1e-3
    rank: int = 8

    def trains(self, shape: Shape) -> Trains | None:
        """Change the matrices of the MLPs."""
        return Trains(modules=(*MLP_IN, *MLP_OUT), first_layer=0, last_layer=shape.layers - 1)

    def passes(self) -> Passes:
        """The steps of relearning and one pass for the gradient."""
        return Passes(forget=1, retain=0, memorising=self.relearn_steps)

    def apply(self, bench: Bench) -> None:
        """Relearn, take the gradient, select, climb."""
        how = Reinforce(
            steps=self.relearn_steps, lr=self.relearn_lr, rank=self.rank, seed=bench.seed
        )
        with bench.stage(0.0, 0.4):
            gradient = bench.gradient(Stream.FORGET, after=how)
        uphill = {
            name: selected(value, self.share) for name, value in gradient.items() if value.ndim == 2
        }
        with bench.stage(0.5, 1.0):
            climb(bench, bench.weights, lambda: uphill, steps=self.steps, lr=self.lr)
