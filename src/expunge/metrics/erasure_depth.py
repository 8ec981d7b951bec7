"""Erasure depth: whether knowledge is gone layer by layer, or only from the output."""

from collections.abc import Sequence

import numpy as np

KNOWLEDGE = 0.05
"""Drop in nats from which on a layer counts as holding the fact."""


def erasure_depth(gold: Sequence[float], own: Sequence[float]) -> float | None:
    """Return the depth of one record, in [0, 1]; None when no layer of the original holds it.

        depth = sum_{l in K} d1_l clip(d2_l / d1_l, 0, 1) / sum_{l in K} d1_l,  K = {l: d1_l > 0.05}

    d1_l is the drop of the original's mean log-probability of the fact when gold is put in at layer
    l; d2_l is the same with the unlearned model. There are two ways to put a model in:

    - activation patching (Unlearning Depth Score, arXiv 2605.24614): the other model's states
      replace the original's after block l, over the answer. Causal; 2L + 3 passes a record.
    - logit lens: the original's own final norm and head read the states after block l. One pass.

    0 is the original, 1 is gold; higher is more forgotten. A refusal head leaves it low. The ratio
    is clipped, so it is blind to over-erasure: read it beside membership. All models must share one
    shape and tokenizer. Records without a knowledge layer are counted, not scored.

    Args:
        gold: d1, the drop per layer when gold is put in, nats.
        own: d2, the drop per layer when the judged model is put in, nats.

    Raises:
        ValueError: The models have different numbers of layers.

    Example:
        >>> erasure_depth([1.0, 3.0], [0.5, 3.0])
        0.875
        >>> erasure_depth([0.0, 0.0], [0.0, 0.0]) is None
        True
    """
    if len(gold) != len(own):
        raise ValueError("both models must have the same number of layers")
    d1, d2 = np.asarray(gold, float), np.asarray(own, float)
    holds = d1 > KNOWLEDGE
    if not holds.any():
        return None
    ratio = np.clip(d2[holds] / d1[holds], 0.0, 1.0)
    return float((d1[holds] * ratio).sum() / d1[holds].sum())
