"""Options: which of several given answers does the model prefer?"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.audit.metrics.logs import log_sum_exp

Array = NDArray[np.float64]


def option_probability(correct: float, wrong: Sequence[float]) -> float | None:
    """Return p(correct) / (p(correct) + sum_j p(wrong_j)), in (0, 1); None without a wrong answer.

    TOFU's probability on real authors and world facts (arXiv 2401.06121), where the answers are
    short and guessable. Chance is 1 / (number of options).

    Args:
        correct: Mean log-probability per token of the true answer, nats.
        wrong: The same of each wrong option.
    """
    if not wrong:
        return None
    return math.exp(correct - log_sum_exp([correct, *wrong]))


def choice_accuracy(logps: Sequence[float], right: int) -> float | None:
    """Return 1 when the right option is the likeliest, 0 when another is; ties share the point.

    Multiple-choice accuracy of one question. With sums of token log-probabilities it is lm-eval's
    `acc`, with means per token its length-normalised form, with those of the letters the usual
    MMLU. It overstates success of unlearning: read it beside the open answer (arXiv 2510.07626).

    Args:
        logps: Log-probability of each option, nats.
        right: Index of the right option.

    Returns:
        None with fewer than two options.
    """
    if len(logps) < 2:
        return None
    best = max(logps)
    winners = [index for index, value in enumerate(logps) if value == best]
    return 1 / len(winners) if right in winners else 0.0


def without_position_bias(logps: Array) -> Array:
    """Return option log-probabilities less the mean of their position: shape (questions, options).

    Unlearned models often prefer one letter whatever is asked; the accuracy after this correction
    says what they still tell apart (arXiv 2410.08827).
    """
    return logps - logps.mean(axis=0, keepdims=True)
