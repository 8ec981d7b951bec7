"""MemFlex: tensors whose forget gradient is large and its own (arXiv:2407.01920).

    tensor W may move  <=>  cos(g_f, g_r) < similarity  and  mean |g_f| > size

g_f and g_r are the gradients of the mean NLL per token of the forget and the retain set by W at the
original. Whole tensors are chosen, so this is the one mask that suits adapters.

A fresh adapter W + s B A has B = 0, so the gradient by A is exactly zero and says nothing, while
that by B is s G (A x)': what the layer's own gradient G looks like through a random A. So B decides
for both halves of a layer; A would otherwise never pass the threshold on size.

Differs from published code: the choice is made once, as in the paper, not in every step; the
weights of the losses (0.4 forget, 2.0 retain) are the method's own gamma and alpha. `size` is that
of the paper's 7B models, and text known by heart has far smaller gradients: where no tensor passes,
the run stops and says how large they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.errors import UsageError
from expunge.optim.base import Gradient, dot, norm
from expunge.optim.masks.top_k import filled

_A, _B = ".lora_A", ".lora_B"


def passes(forget: Tensor, retain: Tensor, *, similarity: float, size: float) -> bool:
    """Tell whether a tensor may move; a gradient of length zero is similar to none.

    Example:
        >>> import torch
        >>> passes(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), similarity=0.5, size=0.1)
        True
    """
    lengths = float(norm({"": forget}) * norm({"": retain}))
    cosine = float(dot({"": forget}, {"": retain})) / lengths if lengths else 0.0
    return cosine < similarity and float(forget.abs().mean()) > size


@dataclass(frozen=True, kw_only=True, slots=True)
class MemFlex:
    """Move only the tensors that tell forget from retain."""

    advice: ClassVar[str] = "the mask for adapters: chooses whole layers"
    needs_retain: ClassVar[bool] = True
    low_rank: ClassVar[bool] = True

    similarity: float = 0.92
    size: float = 6e-4
    """Smallest mean |g_f|, nats per token and unit of weight."""

    def keep(
        self,
        weights: Mapping[str, Tensor],
        forget: Gradient,
        retain: Gradient,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return True where a weight may move.

        Raises:
            UsageError: No tensor passes.
        """
        up, down = filled(forget, weights), filled(retain, weights)
        kept: dict[str, Tensor] = {}
        for name, weight in weights.items():
            judge = name.removesuffix(_A) + _B if name.endswith(_A) else name
            may = passes(up[judge], down[judge], similarity=self.similarity, size=self.size)
            kept[name] = torch.full_like(weight, may, dtype=torch.bool)
        if not any(bool(tensor.any()) for tensor in kept.values()):
            largest = max(float(gradient.abs().mean()) for gradient in up.values())
            raise UsageError(
                "empty-mask",
                what="mask memflex leaves no weight that may move",
                why=f"mean |g_f| is at most {largest:.1e}, and size is {self.size:g}: what is known"
                " by heart has small gradients",
                fix=f"set mask.size below {largest:.1e}, or mask.similarity up to 1",
            )
        return kept
