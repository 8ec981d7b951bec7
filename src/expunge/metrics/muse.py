"""The numbers of MUSE and of its followers (arXiv 2407.06460), in their own definitions."""

from collections.abc import Sequence

from expunge.metrics.tofu import harmonic_mean


def privleak(auc: float, gold: float) -> float:
    """Return (AUC_u - AUC_g) / AUC_g * 100, percent; 0 is gold, below = still known.

    Gold's AUC is in the denominator: the floor is -100 %, the ceiling depends on gold (News +110 %,
    Books +85 %). So two models cannot be compared by it. Beside it stands the difference of AUCs
    with an interval (arXiv 2407.06460).

    Args:
        auc: AUC of the unlearned model with the *holdout* as positive class, as MUSE has it;
            1 - (our AUC).
        gold: The same of the retrained model. There is no default: a made-up 0.5 would be
            another metric under this name.

    Raises:
        ValueError: Gold's AUC is not in (0, 1].

    Example:
        >>> privleak(0.25, 0.5)
        -50.0
    """
    if not 0 < gold <= 1:
        raise ValueError(f"gold's AUC must lie above 0 and at most at 1, not at {gold}")
    return (auc - gold) / gold * 100


def privacy_closeness(own: Sequence[float], gold: Sequence[float]) -> float:
    """Return the harmonic mean over attacks of clip(1 - |AUC_u - AUC_g| / AUC_g, 0, 1).

    The privacy score of the unlearning-depth papers: 1 at gold (arXiv 2605.24614). The direction
    of the AUC must be the same on both sides.

    Raises:
        ValueError: The sides differ in length, or gold's AUC is 0.

    Example:
        >>> privacy_closeness([0.5, 0.5], [0.5, 0.5])
        1.0
    """
    if len(own) != len(gold) or not gold or min(gold) <= 0:
        raise ValueError("closeness needs an AUC above 0 of gold for each AUC of the model")
    parts = [min(1.0, max(0.0, 1 - abs(u - g) / g)) for u, g in zip(own, gold, strict=True)]
    return harmonic_mean(parts)
