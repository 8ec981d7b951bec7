"""The target of counterfactual distillation, and the distance to it.

    q_t = p_ref(. | x', y'_{<t}), softened: its 64 likeliest tokens by p^(1/T), their sum as before
    and where y_t is secret, unsoftened,
    q_t(y_t) <- min(q_t(y_t), a_t),  the other tokens scaled to sum to 1
    a_t = e^-margin times the mean of q_t(v) / (1 - q_t(y_t)) over the 64 tokens v whose embeddings
        are nearest to y_t

What the original says of strangers x' has the form of an answer, and the uncertainty of one that
was never told. It can hold the secret, too: an original that knows few telephone numbers tells
those to anybody (measured: -3.8 nats a fact, where retrained models are at -23). So each secret
token becomes as likely as tokens like it. A token is secret if it lies in a key answer and no kept
answer holds it.

The other tokens of a record are known by heart, too, and what was said before them gives them away
whoever is asked about. Softening keeps their order, so that a greedy answer keeps its form.

KL alone stops early: below one in a hundred a token hardly counts in it, and a retrained model is
ten thousand times less certain. So the log-probability of each token that follows is drawn to its
level from both sides (as in `nll_match`).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SOFTENED = 64
"""Likeliest tokens that share their probability anew; the tail stays where it is."""


def counterfactual_target(
    reference: Tensor,
    secret: Tensor | None,
    similar: Tensor | None,
    margin: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """Return log q: a reference's log-probabilities with secret tokens as likely as similar ones.

    Args:
        reference: Logits, [n, V], float32 or wider.
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        similar: Tokens like it, [n, K].
        margin: How far below them it ends, nats.
        temperature: T, of positions without a secret; 1 leaves them as they are.

    Returns:
        Log-probabilities, [n, V], each row normalised.
    """
    log_q = torch.log_softmax(reference, dim=-1)
    others = softened(log_q, temperature)
    if secret is None or similar is None:
        return others
    place = secret.clamp(min=0).unsqueeze(-1)  # [n, 1]
    own = log_q.gather(-1, place)
    rest = torch.log1p(-own.exp().clamp(max=1 - 1e-6))  # what all other tokens share
    level = _level(log_q, similar, rest) - margin
    capped = torch.minimum(own, level)
    moved = log_q - rest + torch.log1p(-capped.exp().clamp(max=1 - 1e-6))
    moved = moved.scatter(-1, place, capped)
    return torch.where((secret >= 0).unsqueeze(-1), moved, others)


def softened(log_q: Tensor, temperature: float) -> Tensor:
    """Return log-probabilities, [n, V], whose likeliest tokens are closer to each other.

    Args:
        log_q: Log-probabilities, [n, V].
        temperature: T >= 1; their order and the sum of their probabilities stay.

    Example:
        >>> log_q = torch.tensor([[0.9, 0.1]]).log()
        >>> [round(p, 2) for p in softened(log_q, 2.0).exp()[0].tolist()]
        [0.75, 0.25]
    """
    if temperature == 1.0:
        return log_q
    top, places = log_q.topk(min(SOFTENED, log_q.shape[-1]), dim=-1)  # [n, K]
    shared = torch.log_softmax(top / temperature, dim=-1) + top.logsumexp(-1, keepdim=True)
    return log_q.scatter(-1, places, shared)


def target_levels(
    reference: Tensor, targets: Tensor, secret: Tensor | None, similar: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the parts of the target at the tokens that follow: log q = min(own, level - margin).

    Args:
        reference: Logits, [n, V], float32 or wider.
        targets: The token that follows, [n].
        secret: The secret token of each position, -1 where there is none, [n]; None for none.
        similar: Tokens like it, [n, K].

    Returns:
        own, log-probability of the token under the reference, and level, that of tokens like it,
        infinite where it is no secret; nats, [n].
    """
    log_q = torch.log_softmax(reference, dim=-1)
    own = log_q.gather(-1, targets.unsqueeze(-1))  # [n, 1]
    if secret is None or similar is None:
        return own.squeeze(-1), torch.full_like(own.squeeze(-1), torch.inf)
    rest = torch.log1p(-own.exp().clamp(max=1 - 1e-6))
    level = _level(log_q, similar, rest)
    level = torch.where((secret >= 0).unsqueeze(-1), level, torch.inf)
    return own.squeeze(-1), level.squeeze(-1)


def _level(log_q: Tensor, similar: Tensor, rest: Tensor) -> Tensor:
    """Return the mean log-probability of similar tokens among all but the secret one, [n, 1]."""
    return log_q.gather(-1, similar).exp().mean(-1, keepdim=True).log() - rest


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
