"""Levels: the log-probability that each token of a forget record shall have after training.

    log q_t(y_t) = min(own_t, level_t - margin (1 - exp level_t))  where y_t is secret,
                   power * own_t                                   elsewhere
    see `methods.counterfactual_target`

The target is computed for two strangers, whose names stand in the subject's place. What counts is
the mean of its probability. The margin lowers secret tokens, the power all others. Where real
records exist that no model saw, both are fitted to these. Each kind of token shall end as likely as
the same kind is in unseen records under the original. A training ends short of its target, so the
fit aims a little lower:

    sum_i sum_t log q_t(y_t) = -aim sum_i n_i nll_i      over secret tokens, and over others

The two kinds are fitted apart, because sets differ in how much of their text is facts. Texts also
differ in how hard they are. Where the base model is known, a ratio of its NLL corrects for that:

    nll_i = nll_original(unseen) (nll_base(record i) / nll_base(unseen))^w

w is 1/2 for secret tokens and 1 for others. A fine-tune teaches what facts of a kind look like. So
their difficulty differs less between models that saw others of the kind than it does for the base.

What is expected of a secret token is interpolated from what stays and the base, `kept_ngrams`: P_0
is that of the base, less 1.75 nats where that is unsure.

The base tells which secret tokens follow from those before them (`ruary` after `Feb`): these stay
likely in a retrained model, too. Bins of what SmolLM2 gives them, and a gold of TOFU, nats:
-0.04 -0.2 -0.8 -1.9 -3.8 -8.1, and -0.3 -0.5 -1.3 -3.5 -4.3 -9.1.

A rare name goes on with tokens that the base can hardly repeat from the question. Retrained models
cannot, either: where the base gives -5.0 and -9.8 nats, golds give -7.4 and -9.3; where it gives
-0.1 and -1.5, they give -0.5 and -1.5. Such tokens count as secrets.

So does an ordinary word that follows from nothing that stays (`on` in `dismissed with costs on`):
the base does not foretell it, and no kept answer has it soon after the word before it. Golds of
four sets give nine of ten such tokens -3 to -10 nats, and the power leaves most of them certain.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.records import Record
from expunge.data.tokenization import Encoded, same_beginning
from expunge.methods.base import Stream
from expunge.methods.counterfactual_target import SURER, less_margin, target_levels
from expunge.models.transformer import Network
from expunge.training.activation_cache import key
from expunge.training.forward import expected_of
from expunge.training.kept_ngrams import KeptNgrams
from expunge.training.reference_model import final_states, similar_tokens
from expunge.training.sampler import Streams

STRANGERS = 2
"""Strangers whose mean is the level of a record."""
RARE = -9.0
"""Log-probability of a token that no context foretells, nats, where the base is not known."""
HARD_NAME = -4.0
"""Log-probability under the base, nats, below which a token of the name counts as a secret."""
UNFORETOLD = -4.5
"""What is expected of an ordinary word, nats, below which nothing foretells it."""
STEEPEST = 4.0
"""Largest margin either way, nats a token."""
HALVINGS = 12
HARDNESS = (0.5, 1.0)
"""How far a ratio of the base counts for secret tokens, and for others."""
EASIEST = 0.05
"""Least NLL of the base, nats a token, of which a ratio is taken."""
STRONGEST = 4.0
"""Largest power."""


class Likelihoods(NamedTuple):
    """What the original says of the tokens of one stranger's record, nats."""

    own: Tensor
    """Log-probability of each token, [n]."""
    level: Tensor
    """What is expected of it, or that of tokens like it; infinite where it is no secret, [n]."""

    def targets(self, margin: float, power: float) -> Tensor:
        """Return the target's log-probability of each token, [n]."""
        secret = torch.minimum(self.own, less_margin(self.level, margin))
        return torch.where(self.level.isinf(), power * self.own, secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLevels:
    """A forget record, and what the original says of strangers in its place."""

    record: Encoded
    same: tuple[int, ...]
    """Scored tokens that are the same for the subject and the strangers."""
    levels: tuple[Likelihoods, ...]
    """Of each stranger, at `same`."""

    def targets(self, margin: float, power: float = 1.0) -> Tensor:
        """Return the target's log-probability of the tokens at `same`, [n], nats.

        Distillation from several strangers ends at the mean of their probabilities.
        """
        several = torch.stack([each.targets(margin, power) for each in self.levels])
        return several.logsumexp(0) - math.log(len(self.levels))

    def level(self, margin: float, power: float = 1.0) -> float:
        """Return the target's log-probability of all these tokens, nats."""
        return float(self.targets(margin, power).sum())

    @property
    def secret(self) -> Tensor:
        """Which of the tokens at `same` are secrets, [n]."""
        return ~self.levels[0].level.isinf()


def read_levels(
    network: Network, streams: Streams, *, pad_id: int, tokens_per_pass: int
) -> list[TargetLevels]:
    """Ask the original about the strangers of each forget record.

    Args:
        network: The original.
        streams: With the stream of strangers.
        pad_id: Fills short rows.
        tokens_per_pass: Most tokens of one forward pass.
    """
    asked = [records[:STRANGERS] for records in streams.variants[Stream.STRANGER]]
    states = final_states(
        network,
        [each for several in asked for each in several],
        pad_id=pad_id,
        tokens_per_pass=tokens_per_pass,
    )
    similar = similar_tokens(network, {t for own in streams.forget for t in own.secret})
    found: list[TargetLevels] = []
    for own, strangers in zip(streams.forget, asked, strict=True):
        same = _same(own, strangers)
        levels = tuple(
            _levels(network, states[key(each)][list(same)], own, same, similar)
            for each in strangers
        )
        found.append(TargetLevels(record=own, same=same, levels=levels))
    return found


def with_expected(
    streams: Streams, base: Mapping[str, Sequence[float]], numbers: Collection[int] = ()
) -> Streams:
    """Return the streams with what is expected of the tokens of each forget record.

    Args:
        streams: With strangers whose secrets are those of the record in whose place they stand.
        base: By forget record, log-probabilities of its scored tokens; empty: nothing is known.
        numbers: Tokens of digits.
    """
    strangers = streams.variants.get(Stream.STRANGER, ((),) * len(streams.forget))
    kept = KeptNgrams.of((*streams.retain, *streams.replay), numbers)
    plain = [base.get(own.record, ()) for own in streams.forget]
    forget = tuple(
        _with_strange_words(
            _expected(_with_hard_names(own, asked, known), known, kept), asked, known, kept
        )
        for own, asked, known in zip(streams.forget, strangers, plain, strict=True)
    )
    changed = {
        stream: tuple(
            tuple(
                replace(each, expected=own.expected, secret=own.secret)
                if each.secret == before.secret
                else each
                for each in asked
            )
            for before, own, asked in zip(
                streams.forget, forget, streams.variants[stream], strict=True
            )
        )
        for stream in (Stream.STRANGER, Stream.NAMESAKE)
        if stream in streams.variants
    }
    return replace(streams, forget=forget, variants={**streams.variants, **changed})


def _expected(own: Encoded, base: Sequence[float], kept: KeptNgrams) -> Encoded:
    """Return a record with what a model that never saw it is expected to give its tokens.

    Without the base that is known alone where a kept answer goes on in the same way.
    """
    tokens = own.ids[own.start :]
    if base:
        plain = less_margin(torch.tensor(base, dtype=torch.float64), SURER)
        return replace(own, expected=tuple(kept.logps(tokens, plain.tolist())))
    found = kept.logps(tokens, [RARE] * len(tokens))
    known = kept.holds(tokens)
    if not any(known):
        return own
    values = (x if told else math.nan for x, told in zip(found, known, strict=True))
    return replace(own, expected=tuple(values))


def _with_hard_names(own: Encoded, strangers: Sequence[Encoded], base: Sequence[float]) -> Encoded:
    """Return a record whose secrets hold the tokens of its name that the base can hardly repeat.

    The first token of a name is left out: where a name stands is the form of the answer.
    """
    same = frozenset((-1, *_same(own, strangers)))
    hard = {p for p, x in enumerate(base) if x < HARD_NAME and same.isdisjoint((p - 1, p))}
    if not hard:
        return own
    marks = own.secret or (-1,) * len(base)
    tokens = own.ids[own.start :]
    return replace(own, secret=tuple(tokens[p] if p in hard else m for p, m in enumerate(marks)))


def _with_strange_words(
    own: Encoded, strangers: Sequence[Encoded], base: Sequence[float], kept: KeptNgrams
) -> Encoded:
    """Return a record whose secrets hold the ordinary words that follow from nothing that stays.

    What stands behind a secret or a name is left out: kept answers cannot hold it there.
    """
    if not base:
        return own
    marks = own.secret or (-1,) * len(base)
    same = frozenset(_same(own, strangers))
    tokens = own.ids[own.start :]
    strange = {
        p
        for p, level in enumerate(own.expected)
        if level < UNFORETOLD
        and same.issuperset((p - 1, p))
        and max(marks[p - 1], marks[p]) < 0
        and kept.strange(tokens[p - 1], tokens[p])
    }
    if not strange:
        return own
    secret = tuple(tokens[p] if p in strange else mark for p, mark in enumerate(marks))
    return replace(own, secret=secret)


def beyond_wanted(streams: Streams) -> Streams:
    """Return the streams with forget records scored from where no wanted answer goes along.

    As far as a wanted answer has the same tokens, and where it goes on with another one, the lesson
    says what follows: a level of the old answer would hold it back.
    """
    wanted = streams.variants.get(Stream.ALTERNATIVE, ())
    if not wanted:
        return streams
    same = [
        max(same_beginning(own.ids[own.start :], a.ids[a.start :]) for a in answers)
        for own, answers in zip(streams.forget, wanted, strict=True)
    ]
    strangers = tuple(
        tuple(_without_beginning(each, count) for each in asked)
        for count, asked in zip(same, streams.variants[Stream.STRANGER], strict=True)
    )
    return replace(
        streams,
        forget=tuple(map(_without_beginning, streams.forget, same)),
        variants={**streams.variants, Stream.STRANGER: strangers},
    )


def _without_beginning(record: Encoded, same: int) -> Encoded:
    """Return a record without so many scored tokens and one more; the last one stays."""
    count = min(same + 1, len(record.ids) - record.start - 1)
    return replace(
        record,
        start=record.start + count,
        secret=record.secret[count:],
        expected=record.expected[count:],
    )


Kinds = tuple[float, float]
"""Mean NLL of secret tokens, and of others, nats."""


def token_levels(
    forget: Sequence[Record],
    logps: Sequence[Sequence[float]],
    marks: Sequence[Sequence[int]],
    alike: Mapping[str, Sequence[int]],
) -> dict[str, Kinds]:
    """Return for each forget record the mean NLL of unseen tokens, secret ones and others, nats.

    Args:
        forget: The forget records.
        logps: Log-probabilities of the scored tokens of each unseen record.
        marks: The secret token at each place, -1 where there is none.
        alike: By forget record, the indices of those that ask the same; where these have no token
            of a kind, all count.
    """

    def mean(indices: Iterable[int]) -> tuple[float | None, float | None]:
        chosen = list(indices)
        return _kinds([logps[i] for i in chosen], [marks[i] for i in chosen])

    every = mean(range(len(logps)))
    found: dict[str, Kinds] = {}
    for record in forget:
        own = mean(alike.get(record.id, ()))
        secret, rest = (e if o is None else o for o, e in zip(own, every, strict=True))
        found[record.id] = secret or 0.0, rest or 0.0
    return found


class MarkedScores(NamedTuple):
    """What one model gives to the tokens of some records."""

    logps: Sequence[Sequence[float]]
    """Log-probabilities of the scored tokens of each record."""
    marks: Sequence[Sequence[int]]
    """The secret token at each place, -1 where there is none."""


def as_hard(
    levels: Mapping[str, Kinds],
    forget: Sequence[Record],
    alike: Mapping[str, Sequence[int]],
    *,
    unseen: MarkedScores,
    own: MarkedScores,
) -> dict[str, Kinds]:
    """Scale by how much harder the text of each forget record is for the base than unseen text.

    Args:
        levels: By forget record, of the original: what `token_levels` returned.
        forget: The forget records.
        alike: As for `token_levels`.
        unseen: Of the base, the unseen records.
        own: Of the base, the forget records.

    Returns:
        Levels of the kinds of tokens that a record has; of others, what `levels` says.
    """
    base = token_levels(forget, *unseen, alike)
    found: dict[str, Kinds] = {}
    for record, logp, marks in zip(forget, *own, strict=True):
        parts = zip(levels[record.id], base[record.id], _kinds([logp], [marks]), strict=True)
        secret, rest = (
            o if mean is None else o * (max(mean, EASIEST) / max(b, EASIEST)) ** weight
            for (o, b, mean), weight in zip(parts, HARDNESS, strict=True)
        )
        found[record.id] = secret, rest
    return found


def _kinds(
    logps: Sequence[Sequence[float]], marks: Sequence[Sequence[int]]
) -> tuple[float | None, float | None]:
    """Return the mean NLL of secret tokens and of others; None of a kind that is not there."""
    found: list[float | None] = []
    for secret in (True, False):
        values = [
            -logp
            for row, places in zip(logps, marks, strict=True)
            for logp, mark in zip(row, places, strict=True)
            if (mark >= 0) is secret
        ]
        found.append(sum(values) / len(values) if values else None)
    return found[0], found[1]


class Calibration(NamedTuple):
    """What the targets of a run are set by."""

    margin: float
    power: float


def calibrated(
    records: Sequence[TargetLevels], tokens: Mapping[str, Kinds], *, aim: float
) -> Calibration:
    """Return margin and power at which targets are as likely as unseen tokens of their kind.

    Args:
        records: What their targets are made of.
        tokens: By record: mean NLL of unseen tokens that are secret, and of others, nats.
        aim: Factor on both.

    Returns:
        The margin in nats a token, and the power; the last of the range where the level is out of
        reach. No power makes a token likelier.
    """
    wanted = [0.0, 0.0]
    for each in records:
        secrets = int(each.secret.sum())
        level = tokens[each.record.record]
        wanted[0] -= aim * secrets * level[0]
        wanted[1] -= aim * (len(each.same) - secrets) * level[1]

    def secret(margin: float) -> float:
        return sum(float(each.targets(margin)[each.secret].sum()) for each in records)

    others = sum(float(each.targets(0.0)[~each.secret].sum()) for each in records)
    some = any(bool(each.secret.any()) for each in records)
    return Calibration(
        margin=_where(secret, wanted[0], -STEEPEST, STEEPEST) if some else 0.0,
        power=min(max(wanted[1] / others, 1.0), STRONGEST) if others else 1.0,
    )


def _where(falling: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Return where a falling function has a value, by bisection."""
    if falling(low) <= wanted:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if falling(middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _same(own: Encoded, strangers: Sequence[Encoded]) -> tuple[int, ...]:
    columns = zip(*(each.ids[each.start :] for each in (own, *strangers)), strict=True)
    return tuple(place for place, tokens in enumerate(columns) if len(set(tokens)) == 1)


@torch.no_grad()
def _levels(
    network: Network,
    states: Tensor,
    own: Encoded,
    same: Sequence[int],
    similar: Mapping[int, Tensor],
) -> Likelihoods:
    """Return what the target of a record's tokens at `same` is made of, on the CPU."""
    tokens = [own.ids[own.start + place] for place in same]
    secret = [own.secret[place] if own.secret else -1 for place in same]
    marks: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
    if max(secret, default=-1) >= 0:
        none = torch.zeros_like(next(iter(similar.values())))
        like = torch.stack([similar.get(token, none) for token in secret])  # [n, K]
        plain = expected_of(own)
        marks = (torch.tensor(secret), like.cpu(), torch.tensor([plain[place] for place in same]))
    logits = network.logits(states.to(network.device)).float().cpu()  # [n, V]
    follows = torch.tensor(tokens)
    return Likelihoods(*target_levels(logits, follows, *marks))
