"""Retain terms: what keeps everything else in place.

- NLL: `(1/N) sum_t -log p(y_t)` over the scored tokens of retain records.
- KL: `(1/N) sum_t KL(p_ref || p)` over the same positions. Published code averages over prompt and
  padding too (trap T4) or calls `kl_div` on raw logits (trap T3); here only scored positions count.
"""

from typing import Literal

import torch
from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.terms import Answers, Distribution, Likelihood, Predictions, Stream, Term

Retain = Literal["nll", "kl", "none"]


def nll(answers: Answers) -> Tensor:
    """Return the sum of -log p over scored tokens; logp [N] nats -> scalar."""
    return -answers.logp.sum()


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """Return KL(p_ref || p) for each position in nats; logits [n, V] -> [n], never negative."""
    log_p = torch.log_softmax(logits, dim=-1)
    log_ref = torch.log_softmax(reference, dim=-1)
    return (log_ref.exp() * (log_ref - log_p)).sum(-1)


def kl_to_original(seen: Predictions) -> Tensor:
    """Return KL(p_ref || p) for each of n predictions, [n] nats."""
    return kl(seen.logits, seen.references[0])


def retain_terms(kind: str, coef: float) -> tuple[Term, ...]:
    """Return the retain term of a method: `nll`, `kl` or `none`.

    Raises:
        UsageError: No such retain term.
    """
    retain = (Stream.RETAIN,)
    if kind == "nll":
        return (Likelihood(name="retain", streams=retain, coef=coef, per="token", loss=nll),)
    if kind == "kl":
        term = Distribution(
            name="retain", streams=retain, coef=coef, loss=kl_to_original, references=retain
        )
        return (term,)
    if kind == "none":
        return ()
    raise UsageError(
        "unknown-retain-term",
        what=f"there is no retain term {kind}",
        why="a retain term is nll, kl or none",
        fix='set retain = "nll" in [method]',
    )
