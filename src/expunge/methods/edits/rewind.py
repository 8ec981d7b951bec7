"""Rewind: back towards the base model, then distil what must stay (arXiv:2109.01903).

    theta(s) = theta_base + s (theta - theta_base)

    1. search     the largest s in [0, 1] at which forget answers are as unlikely as unseen text
    2. distil     KL(p_original || p) on retain, from theta(s)

The fine-tuning put the answers there, so going back along it takes them away, together with all
else that it taught; distillation brings back what it is shown. What is neither shown nor known to
the base model is lost: give the retain set whole, or expect that loss. Distilling on other records
raises forget answers no more than any other record that is not shown.

Differs from published code: weights between a base and a fine-tuned model are those of WiSE-FT,
which seeks robust accuracy there and trains no further; search and distillation are our own.

The search assumes that answers grow less likely all the way back; it halves the interval. Where
even the base model knows them, the weights end at the base: fine-tuning is not what taught them.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes
from expunge.methods.retain_losses import retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewind:
    """Go back along the fine-tuning and distil the original on the retain set."""

    family: ClassVar[str] = "arithmetic"
    advice: ClassVar[str] = "where the base model is known; what the retain set lacks is lost"
    streams: ClassVar[tuple[Stream, ...]] = ()

    epochs: int = 3
    lr: float = 2e-5
    halvings: int = 5
    """Steps of the search; s is found to within 2^-halvings."""

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """The epochs of distillation; the search looks at the probes once a halving."""
        return Passes(forget=1, retain=self.epochs)

    def apply(self, bench: Bench) -> None:
        """Search, then distil from there."""
        base = bench.base()
        start = {name: weight.clone() for name, weight in bench.weights.items()}

        def move(share: float) -> None:
            for name, weight in bench.weights.items():
                here = base[name].to(weight)
                weight.copy_(here + share * (start[name] - here))

        low, high = 0.0, 1.0
        for step in range(self.halvings):
            middle = (low + high) / 2
            move(middle)
            low, high = (middle, high) if bench.unseen() else (low, middle)
            bench.progress(0.1 * (step + 1) / self.halvings, f"{low:.2f} of the way kept")
        move(1.0)
        with bench.stage(0.1, 1.0):
            bench.train(
                retain_terms("kl", 1.0),
                name="distil",
                epochs=self.epochs,
                lr=self.lr,
                before=lambda: move(low),
                watched=False,
            )
