"""The target of counterfactual distillation, and the distance to it.

    q_t = p_ref(. | x', y'_{<t}), with one token as likely as it would be, had it not been learnt,
    and the other tokens scaled to sum to 1:
    where y_t is secret   log q_t(y_t) = min(log p_ref(y_t), log a_t - margin (1 - a_t))
    elsewhere             log q_t(y_t) = power * log p_ref(y_t)
    a_t = what is expected of a model that never saw the record, where that is known, else, less
          1.75 nats in the same way,
          mean of p_ref(v) / (1 - p_ref(y_t)) over the 64 tokens v with embeddings nearest to y_t

What the original says of strangers x' has the form of an answer, and the uncertainty of one that
was never told. It can hold the secret, too: an original that knows few telephone numbers tells
those to anybody (measured: -3.8 nats a fact, where retrained models are at -23). So each secret
token becomes as likely as it would be without the record: `training.counterfactual_levels` says
what is expected of it. Else it becomes as likely as tokens like it. A token is secret if it lies in
a key answer and no kept answer holds it, or if it goes on with a name that the base can
hardly repeat.

The other tokens of a record are known by heart, too, and what was said before them gives them away
whoever is asked about. A power keeps what is certain (0.99 becomes 0.96 at 4) and takes what was
open (0.3 becomes 0.008), as in a retrained model: half of its tokens are as certain as before, and
a tenth are at -8 nats. A temperature makes all of them uncertain, and the answers fall apart.

KL alone stops early: below one in a hundred a token hardly counts in it, and a retrained model is
ten thousand times less certain. So the log-probability of each token that follows is drawn to its
level from both sides (as in `nll_match`).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SURER = 1.75
"""Nats by which retrained models are below a guess at secrets: they are surer of wrong values."""


def counterfactual_target(
    reference: Tensor,
    targets: Tensor,
    secret: Tensor | None,
    similar: Tensor | None,
    margin: float = 0.0,
    power: float | Tensor = 1.0,
    expected: Tensor | None = None,
) -> Tensor:
    """Return log q: a reference's log-probabilities, less sure of the tokens of the record.

    Args:
        reference: Logits, [n, V], float32 or wider.
        targets: The token that follows, [n].
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        similar: Tokens like it, [n, K].
        margin: How far below them it ends, nats.
        power: Of the probability of what follows, where no token is secret; 1 leaves it as it is.
            One number, or [n, 1].
        expected: Log-probability of the secret tokens without the record, NaN where it is not
            known, [n].

    Returns:
        Log-probabilities, [n, V], each row normalised.

    Example:
        >>> even = torch.zeros(1, 2)
        >>> q = counterfactual_target(even, torch.tensor([0]), None, None, power=2.0)
        >>> [round(p, 2) for p in q.exp()[0].tolist()]
        [0.25, 0.75]
    """
    log_q = torch.log_softmax(reference, dim=-1)
    place = targets.unsqueeze(-1)  # [n, 1]
    hidden = None
    if secret is not None and similar is not None:
        hidden = (secret >= 0).unsqueeze(-1)
        place = torch.where(hidden, secret.unsqueeze(-1), place)
    own = log_q.gather(-1, place)
    rest = _rest(own)
    capped = power * own
    if hidden is not None and similar is not None:
        capped = torch.where(
            hidden,
            torch.minimum(own, less_margin(_level(log_q, similar, rest, expected), margin)),
            capped,
        )
    return (log_q - rest + _rest(capped)).scatter(-1, place, capped)


def exchanged(reference: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return logits, [n, V], in which two tokens of each row, [n] and [n], have changed places.

    Example:
        >>> exchanged(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0]), torch.tensor([2]))
        tensor([[3., 2., 1.]])
    """
    if torch.equal(first, second):
        return reference
    places = torch.stack([first, second], dim=-1)  # [n, 2]
    return reference.scatter(-1, places, reference.gather(-1, places.flip(-1)))


def less_margin(level: Tensor, margin: float) -> Tensor:
    """Return levels, nats, less a margin that counts as far as they are uncertain.

    Example:
        >>> [round(x, 2) for x in less_margin(torch.tensor([0.0, -0.6931, -9.0]), 2.0).tolist()]
        [0.0, -1.69, -11.0]
    """
    return level - margin * (1 - level.exp())


def target_levels(
    reference: Tensor,
    targets: Tensor,
    secret: Tensor | None,
    similar: Tensor | None,
    expected: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what the target at the tokens that follow is made of.

    Args:
        reference: Logits, [n, V], float32 or wider.
        targets: The token that follows, [n].
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        similar: Tokens like it, [n, K].
        expected: As for `counterfactual_target`.

    Returns:
        own, log-probability of the token under the reference, and level, what is expected, or that
        of tokens like it, infinite where it is no secret; nats, [n].
    """
    log_q = torch.log_softmax(reference, dim=-1)
    own = log_q.gather(-1, targets.unsqueeze(-1))  # [n, 1]
    if secret is None or similar is None:
        return own.squeeze(-1), torch.full_like(own.squeeze(-1), torch.inf)
    level = _level(log_q, similar, _rest(own), expected)
    level = torch.where((secret >= 0).unsqueeze(-1), level, torch.inf)
    return own.squeeze(-1), level.squeeze(-1)


def _rest(own: Tensor) -> Tensor:
    """Return the log-probability of all tokens but one, [n, 1]."""
    return torch.log1p(-own.exp().clamp(max=1 - 1e-6))


def _level(log_q: Tensor, similar: Tensor, rest: Tensor, expected: Tensor | None) -> Tensor:
    """Return log a, [n, 1]: what is expected, or the mean of similar tokens without the secret."""
    like = log_q.gather(-1, similar).exp().mean(-1, keepdim=True).log() - rest
    like = less_margin(like, SURER)
    if expected is None:
        return like
    known = expected.unsqueeze(-1).to(like)
    return torch.where(known.isnan(), like, known)


def match(log_q: Tensor, logits: Tensor, targets: Tensor, level: float) -> Tensor:
    """Return KL(q || p), and the distance of the tokens that follow from their level, in nats, [n].

    Args:
        log_q: Target log-probabilities, [n, V].
        logits: Of the model, [n, V].
        targets: The token that follows, [n].
        level: Weight of the second part.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    value = (log_q.exp() * (log_q - log_p)).sum(-1)
    if not level:
        return value
    place = targets.unsqueeze(-1)
    far = (log_p.gather(-1, place) - log_q.gather(-1, place)).squeeze(-1).abs()
    # 2 log cosh(x / 2) = |x| + 2 log(1 + exp(-|x|)) - 2 log 2, which does not overflow.
    return value + level * (far + 2 * functional.softplus(-far) - 2 * math.log(2))
