"""Retain terms: what keeps everything else in place.

- NLL: `(1/N) sum_t -log p(y_t)` over the scored tokens of retain records.
- KL: `(1/N) sum_t KL(p_ref || p)` over the same positions. Published code averages over prompt and
  padding too (trap T4) or calls `kl_div` on raw logits (trap T3); here only scored positions count.
- JSD: `(1/N) sum_t JSD(p, p_ref)`, the same but bounded by log 2 (JensUn, arXiv:2509.02820).
- argmax: `(1/N) sum_t -log p(k_t)`, k_t the original's most likely token (ELM's code, trap T27).
"""

import math

import torch
from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.base import Answers, Distribution, Likelihood, Predictions, Stream, Term


def nll(answers: Answers) -> Tensor:
    """Return the sum of -log p over scored tokens; logp [N] nats -> scalar."""
    return -answers.logp.sum()


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """Return KL(p_ref || p) for each position in nats; logits [n, V] -> [n], never negative.

    Example:
        >>> kl(torch.zeros(1, 3), torch.zeros(1, 3))
        tensor([0.])
    """
    log_p = torch.log_softmax(logits, dim=-1)
    log_ref = torch.log_softmax(reference, dim=-1)
    return (log_ref.exp() * (log_ref - log_p)).sum(-1)


def jsd(logits: Tensor, reference: Tensor) -> Tensor:
    """Return JSD(p, p_ref) for each position in nats; logits [n, V] -> [n], at most log 2."""
    log_p = torch.log_softmax(logits, dim=-1)
    log_ref = torch.log_softmax(reference, dim=-1)
    log_mean = torch.logaddexp(log_p, log_ref) - math.log(2)
    both = log_p.exp() * (log_p - log_mean) + log_ref.exp() * (log_ref - log_mean)
    return both.sum(-1) / 2


def argmax_nll(logits: Tensor, reference: Tensor) -> Tensor:
    """Return -log p of the reference's most likely token in nats; logits [n, V] -> [n]."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -log_p.gather(-1, reference.argmax(-1, keepdim=True)).squeeze(-1)


_TO_ORIGINAL = {"kl": kl, "jsd": jsd, "argmax": argmax_nll}


def lesson_terms(coef: float, stream: Stream = Stream.ALTERNATIVE) -> tuple[Term, ...]:
    """Return the term that teaches other answers, `(1/N_a) sum_t -log p`; none of coef 0."""
    lesson = Likelihood(name="lesson", streams=(stream,), coef=coef, per="token", loss=nll)
    return (lesson,) if coef else ()


def retain_terms(kind: str, coef: float, *, name: str = "retain") -> tuple[Term, ...]:
    """Return the retain term of a method: `nll`, `kl`, `jsd`, `argmax` or `none`.

    Raises:
        UsageError: No such retain term.
    """
    retain = (Stream.RETAIN,)
    if kind == "nll":
        return (Likelihood(name=name, streams=retain, coef=coef, per="token", loss=nll),)
    if kind in _TO_ORIGINAL:
        compare = _TO_ORIGINAL[kind]

        def loss(seen: Predictions) -> Tensor:
            return compare(seen.logits, seen.references[0])

        return (Distribution(name=name, streams=retain, coef=coef, loss=loss, references=retain),)
    if kind == "none":
        return ()
    raise UsageError(
        "unknown-retain-term",
        what=f"there is no retain term {kind}",
        why="a retain term is nll, kl, jsd, argmax or none",
        fix='set retain = "nll" in [method]',
    )
