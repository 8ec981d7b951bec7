"""LAT: forget while an adversary moves the states inside the model (arXiv:2407.15549).

    delta* = argmin over |delta_t| <= radius of   NLL_f(theta; h_l + delta) - NLL_other
    g      = g_f(theta; h_l + delta*)

delta is one vector per token, added to the residual stream after block l; |.| is its Euclidean
length. The adversary makes the forget answers likely ("toward") and whatever else the method
teaches on the same prompts unlikely ("away"), in `steps` steps of projected descent along the
normalised gradient of each token, from no change. The step of the weights is then taken where it
got to; each record has an adversary of its own, so batches do not matter.

Differs from published code: normalised gradient steps of size 2 radius / steps, not AdamW; every
token of the records is moved, not the prompt alone; retained text is kept by the method's own
retain term at unmoved states; the width is read from the model (trap T18).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import Shape, require_positive
from expunge.methods.hidden_states import block
from expunge.optim.base import Gradient, Memory, Pull


@dataclass(frozen=True, kw_only=True, slots=True)
class LAT:
    """Latent adversarial training of the forget terms."""

    advice: ClassVar[str] = "against jailbreaks and few-shot relearning; one pass per inner step"
    needs_retain: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = False

    layer: int = -1
    """Block after which states are moved; -1: 7/32 of the way up."""
    radius: float = 1.5
    """Largest length of the change of one token's state; compare the states' own."""
    steps: int = 16

    def __post_init__(self) -> None:
        require_positive("radius", self.radius, "robust")
        require_positive("steps", self.steps, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return self.steps + 1

    def block(self, shape: Shape) -> int:
        """Return the block.

        Raises:
            UsageError: The model has no such block.
        """
        return block(shape, self.layer, shape.layers * 7 // 32)

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the forget gradient at the adversary's states."""
        return pull.latent(self.block(pull.shape), radius=self.radius, steps=self.steps)
