"""MUDMAN: unlearn at an adversary, where the retain gradient agrees (arXiv:2506.12484).

Every step, with a copy a of the weights that is set to theta every `refork` steps:

    m <- decay m + (1 - decay) g_r(theta)
    a <- a - lr grad NLL_f(a)                        the adversary relearns the forget records
    g  = g_f(a)
    g  = strength * [sign g = sign m] g / |g|        per weight; |.| over all, before the mask

The step is taken by theta, not by a: it undoes what an attacker would have reached, along those
weights alone where it does not disturb what is retained.

Differs from published code: the unlearning gradient is taken after the adversary's step, not at the
point before it; retained text is kept by the method's own retain term, not by descending m; any
method's forget terms take the place of negative entropy, and any trained weights that of
`gate_proj`. `lr` suits full weights; adapters need one to two orders more.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import require_positive
from expunge.optim.base import Gradient, Memory, Pull, norm, scaled

_STEP, _RETAIN, _ADVERSARY = "mudman/step", "mudman/retain/", "mudman/adversary/"


def agreeing(gradient: Gradient, guide: Gradient) -> Gradient:
    """Return the gradient, zero where its sign is not that of `guide` or `guide` knows no weight.

    Both point uphill, so equal signs move a weight the same way.

    Example:
        >>> gradient, guide = {"w": torch.tensor([2.0, 1.0])}, {"w": torch.tensor([1.0, -1.0])}
        >>> agreeing(gradient, guide)
        {'w': tensor([2., 0.])}
    """
    kept: Gradient = {}
    for name, value in gradient.items():
        sign = guide[name].sign() if name in guide else torch.zeros_like(value)
        kept[name] = value * (value.sign() == sign)
    return kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Mudman:
    """Meta-unlearning with disruption masking and normalisation."""

    advice: ClassVar[str] = "against relearning of open weights; needs retain data, three copies"
    needs_retain: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = False

    refork: int = 32
    """Steps after which the adversary starts again at the weights."""
    lr: float = 1e-3
    """Of the adversary, plain gradient descent."""
    decay: float = 0.9
    strength: float = 1.0
    """Length of the forget gradient before the mask, against the retain gradient's own."""

    def __post_init__(self) -> None:
        require_positive("refork", self.refork, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return 2

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the masked and normalised forget gradient at the adversary."""
        for name, value in retain.items():
            mean = memory.setdefault(_RETAIN + name, torch.zeros_like(value))
            mean.mul_(self.decay).add_(value, alpha=1 - self.decay)
        step = int(memory.get(_STEP, torch.tensor(0)))
        memory[_STEP] = torch.tensor(step + 1)
        if step % self.refork == 0:
            memory.update({_ADVERSARY + n: w.clone() for n, w in pull.weights.items()})
        adversary = _part(memory, _ADVERSARY)
        # The adversary relearns from its own weights, kept as float32 copies in the memory.
        for name, slope in pull.relearn(at=_offset(adversary, pull)).items():
            adversary[name].sub_(slope, alpha=self.lr)
        gradient = pull("forget", at=_offset(adversary, pull))
        length = float(norm(gradient))  # before the mask, as `strength` says
        masked = agreeing(gradient, _part(memory, _RETAIN))
        return scaled(masked, self.strength / length if length else 0.0)


def _part(memory: Memory, prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in memory.items() if n.startswith(prefix)}


def _offset(adversary: Gradient, pull: Pull) -> Gradient:
    return {name: adversary[name] - weight for name, weight in pull.weights.items()}
