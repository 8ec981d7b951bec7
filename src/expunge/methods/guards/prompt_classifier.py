"""The probe: a classifier of the prompts that a guard is for, Fisher's discriminant with a ridge.

    w = (S + ridge (tr S / d) I)^-1 (m_f - m_r)
    threshold = (q_r + q_f) / 2

m_f and m_r are the mean features of forget and retain prompts, S their pooled covariance; q_r is
the (1 - alarms) quantile of retain scores and q_f the `alarms` quantile of forget scores. Published
guards train a text classifier of their own (ECO: RoBERTa, threshold 0.99); this one reads the
model that it guards, so there is no second model.
"""

import torch
from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.base import Stream
from expunge.methods.guards.base import GuardBench, PromptClassifier

RIDGE = 0.1


def discriminant(forget: Tensor, retain: Tensor, *, layer: int, alarms: float) -> PromptClassifier:
    """Return the probe that tells forget features [n, d] from retain features [m, d].

    Example:
        >>> forget, retain = torch.ones(3, 2), -torch.ones(3, 2)
        >>> discriminant(forget, retain, layer=1, alarms=0.05).threshold
        0.0
    """
    first, second = forget.double(), retain.double()
    inner = torch.cat([first - first.mean(0), second - second.mean(0)])
    scatter = inner.T @ inner / len(inner)
    # The floor keeps features without any spread, of a single record, solvable.
    scatter.diagonal().add_(RIDGE * scatter.diagonal().mean().clamp(min=1e-12))
    weights = torch.linalg.solve(scatter, first.mean(0) - second.mean(0))
    low, high = (second @ weights).quantile(1 - alarms), (first @ weights).quantile(alarms)
    return PromptClassifier(layer=layer, weights=weights.float(), threshold=float(low + high) / 2)


def fit_probe(bench: GuardBench, alarms: float) -> PromptClassifier:
    """Fit the probe on the questions of both sets, after the middle block.

    Raises:
        UsageError: There are no questions in one of the sets.
    """
    head, tail = bench.frame
    prompts = [record.prompt for record in bench.tokens(Stream.FORGET)]
    if any(p[: len(head)] != head or len(p) <= len(head) + len(tail) for p in prompts):
        raise UsageError(
            "no-question",
            what="some forget records are no plain question: passages, or with a system turn",
            why="this guard acts on questions that open a conversation",
            fix="give prompt and completion, or use --method ngram_block",
        )
    if any(p[len(p) - len(tail) :] != tail for p in prompts):
        raise UsageError(
            "answers-for-a-probe",
            what='train.forget_tokens = "fact" does not go with this guard',
            why="it learns what questions look like, and these run on to the fact",
            fix="leave train.forget_tokens out",
        )
    layer = bench.shape.layers // 2
    forget, retain = (bench.features(s, layer) for s in (Stream.FORGET, Stream.RETAIN))
    if not len(retain):
        raise UsageError(
            "nothing-to-retain",
            what="the guard must distinguish prompts about the forget set from others",
            why="the retain records hold no questions from which it could learn the others",
            fix="name some with --retain FILE",
        )
    return discriminant(forget, retain, layer=layer, alarms=alarms)
