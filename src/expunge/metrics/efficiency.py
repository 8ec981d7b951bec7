"""What forgetting cost beside retraining: reported, never gated."""

from typing import NamedTuple


class Work(NamedTuple):
    """Tokens that a run processed, by kind.

    Example:
        >>> Work(forward=1000).trained
        0
    """

    forward: int = 0
    trained: int = 0
    trained_lora: int = 0
    generated: int = 0


def flops(parameters: int, work: Work) -> float:
    """Return the floating-point operations of a run with a model of N weights.

    Per token: forward 2N, a full training step 6N, a LoRA step about 4N (no gradient of the frozen
    weights), generation 2N (arXiv 2001.08361). Embeddings do not count. Attention over the context,
    small at these lengths, is left out.

    Raises:
        ValueError: A count is negative.

    Example:
        >>> flops(1000, Work(forward=10, trained=1))
        26000.0
    """
    if parameters < 0 or min(work) < 0:
        raise ValueError("work is not negative")
    return float(parameters) * (
        2 * (work.forward + work.generated) + 6 * work.trained + 4 * work.trained_lora
    )


def speed_up(retraining: float, unlearning: float) -> float:
    """Return T_gold / T_u: how many times faster than retraining; both in the same unit.

    Higher is better; below 1, retraining would have been cheaper and exact.

    Raises:
        ValueError: A time is not positive.

    Example:
        >>> speed_up(retraining=120.0, unlearning=10.0)
        12.0
    """
    if retraining <= 0 or unlearning <= 0:
        raise ValueError("a speed-up needs two positive costs")
    return retraining / unlearning
