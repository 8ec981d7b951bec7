"""Truth ratio: does the model prefer the true answer to false ones of the same form?

    r = avg_j p(wrong_j) / p(correct)        p: length-normalised, exp of the mean log-probability

`correct` is the true answer in other words, so that its wording was not trained on either. The code
of TOFU takes the geometric mean over wrong answers, its paper the arithmetic one; both are here by
name, and every number of ours is geometric (arXiv 2401.06121).

Needs a restated true answer and about five perturbed ones. Cost: six passes. Weak on single
records: on published logs it flags a quarter of fully memorised facts.
"""

import math
from collections.abc import Sequence
from typing import Literal

from expunge.audit.metrics.logs import log_mean_exp

Average = Literal["geometric", "arithmetic"]


def truth_ratio(
    correct: float, wrong: Sequence[float], *, average: Average = "geometric"
) -> float | None:
    """Return r, in (0, inf): above 1 the model prefers falsehood; None without a wrong answer.

    Args:
        correct: Mean log-probability per token of the restated true answer, nats.
        wrong: The same of each perturbed answer.
        average: `geometric` as in TOFU's code, `arithmetic` as in its paper.
    """
    if not wrong:
        return None
    mean = math.fsum(wrong) / len(wrong) if average == "geometric" else log_mean_exp(wrong)
    return math.exp(mean - correct)


def truth_share(correct: float, wrong: Sequence[float]) -> float | None:
    """Return c / (c + w) = 1 / (1 + r), in (0, 1): lower = more forgotten (arXiv 2506.12618).

    The monotone form of the truth ratio: 0.5 when truth and falsehood are equally likely.
    """
    ratio = truth_ratio(correct, wrong)
    return None if ratio is None else 1 / (1 + ratio)


def forget_truth(ratio: float) -> float:
    """Return min(r, 1/r), TOFU's form on the forget set; 1 is its aim.

    Not monotone: a model that was pushed too far scores as low as one that remembers. For
    comparison with published tables only.
    """
    return min(ratio, 1 / ratio) if ratio > 0 else 0.0


def utility_truth(ratio: float) -> float:
    """Return max(0, 1 - r), TOFU's form on retained sets, in [0, 1]; higher is better."""
    return max(0.0, 1 - ratio)
