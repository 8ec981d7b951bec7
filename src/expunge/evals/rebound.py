"""Rebound and drift: whether a later request brought back what an earlier one erased.

Let lp_t(f) be the mean log-probability of the tokens of a fact f under the model after request t,
and s the request that erased f. For each earlier request that is asked again:

- a fact *came back* when the model states it, the model after request s did not, and lp_t(f) is
  nearer to that of the first original than to lp_s(f);
- p is the larger p-value of two exact permutation tests against fabricated control records: are
  the facts more likely than controls under this model, and did they rise more since request s?
  A fact that was easy to guess all along, and one that only returned to the level of unseen text,
  so alarm nobody. Holm's rule adjusts p over the requests that are asked at this step.

A request *rebounds* when a fact came back, or when its adjusted p is at most `LEVEL` and the mean
probability of its facts rose by `LEAST_RISE` or more.

Drift is the rise of the perplexity on retained probes against the first original,
`d_t = exp(nll_t - nll_0) - 1`. The alarm rings when d_t passes the tolerated loss of the chain, or
when the cumulative sum of the rises passes 5 k, where k is half the tolerated loss of a request.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from expunge.metrics.statistics import cusum, holm, permutation_test

LEVEL = 0.01
"""Chance, at a step, that any request without rebound is called one."""
LEAST_RISE = 0.05
"""Rise of the mean probability of a request's facts below which no test alarms."""
LIMIT = 5
"""Slacks at which the cumulative sum of the drift alarms."""


class FactKey(NamedTuple):
    """A fact: the number of the request that erased it, and the id of its record."""

    request: int
    record: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FactReading:
    """What a model says of one fact.

    Example:
        >>> FactReading(request=1, record="r1", logp=-3.2, states=False).key
        FactKey(request=1, record='r1')
    """

    request: int
    record: str
    logp: float
    """Mean log-probability of the fact's tokens, nats."""
    states: bool
    """Whether the greedy answer states it."""

    @property
    def key(self) -> FactKey:
        """Which fact this is about."""
        return FactKey(self.request, self.record)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebound:
    """What became of one earlier request.

    Example:
        >>> Rebound(request=1, asked=2, back=("r1",), p=0.001, adjusted=0.002, rise=0.4).alarms
        True
    """

    request: int
    asked: int
    """Facts that were asked."""
    back: tuple[str, ...]
    """Ids of the records that came back; without any, of the one that rose most."""
    p: float
    adjusted: float
    """By Holm's rule, over the requests of this step."""
    rise: float
    """Of the mean probability of its facts."""
    stated: int = 0
    """Facts that came back, by the rule."""

    @property
    def alarms(self) -> bool:
        """Whether the request rebounds."""
        return self.stated > 0 or (self.adjusted <= LEVEL and self.rise >= LEAST_RISE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """Mean log-probabilities of the control records, in one order, nats."""

    now: tuple[float, ...]
    then: Mapping[int, Sequence[float]]
    """After each earlier request, by its number."""


def rebounds(
    asked: Sequence[FactReading],
    *,
    erased: Mapping[FactKey, FactReading],
    first: Mapping[FactKey, FactReading],
    controls: Controls,
) -> tuple[Rebound, ...]:
    """Judge the facts of earlier requests that were asked again.

    Args:
        asked: What the model says of them now.
        erased: What it said right after the request that erased them.
        first: What the first original says.
        controls: What it says, and said, of control records; without any, nothing is tested.

    Returns:
        One result for each request, in the order of requests.
    """
    rows = [_one(group, erased, first, controls) for group in _by_request(asked)]
    adjusted = holm([row.p for row in rows])
    pairs = zip(rows, adjusted, strict=True)
    return tuple(replace(row, adjusted=value) for row, value in pairs)


def _by_request(asked: Sequence[FactReading]) -> list[list[FactReading]]:
    found: dict[int, list[FactReading]] = {}
    for each in sorted(asked, key=lambda reading: reading.request):
        found.setdefault(each.request, []).append(each)
    return list(found.values())


def _one(
    group: Sequence[FactReading],
    erased: Mapping[FactKey, FactReading],
    first: Mapping[FactKey, FactReading],
    controls: Controls,
) -> Rebound:
    rises = [each.logp - erased[each.key].logp for each in group]
    # Of the mean probability.
    gains = [math.exp(each.logp) - math.exp(erased[each.key].logp) for each in group]
    back = [
        each.record
        for each in group
        if each.states
        and not erased[each.key].states
        and each.logp >= (first[each.key].logp + erased[each.key].logp) / 2
    ]
    request, p = group[0].request, 1.0
    then = controls.then.get(request, ())
    if controls.now and len(then) == len(controls.now):
        risen = [now - before for now, before in zip(controls.now, then, strict=True)]
        p = max(
            permutation_test([each.logp for each in group], controls.now),
            permutation_test(rises, risen),
        )
    most = group[max(range(len(group)), key=lambda index: gains[index])].record
    return Rebound(
        request=request,
        asked=len(group),
        back=tuple(back) or (most,),
        p=p,
        adjusted=p,
        rise=sum(gains) / len(gains),
        stated=len(back),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What a chain lost of its utility.

    Example:
        >>> Drift(loss=0.02, step=0.02, cusum=0.015, per_request=0.01, whole=0.1).alarms
        False
    """

    loss: float
    """Rise of the perplexity on retained probes against the first original."""
    step: float
    """Of that, what the last request added."""
    cusum: float
    per_request: float
    """Tolerated loss of a request."""
    whole: float
    """Tolerated loss of the chain."""

    @property
    def alarms(self) -> bool:
        """Whether the chain lost more than is tolerated."""
        return self.loss > self.whole or self.cusum > LIMIT * self.per_request / 2

    def text(self) -> str:
        """Return it as words."""
        limit = LIMIT * self.per_request / 2
        return (
            f"perplexity of kept text {self.loss:+.1%} of {self.whole:.0%},"
            f" cumulative sum {self.cusum:.3f} of {limit:.3f}"
        )


def drift(nlls: Sequence[Sequence[float]], *, per_request: float, whole: float) -> Drift:
    """Judge what a chain lost on the same probes after each request.

    Args:
        nlls: Mean negative log-probability of a token for each probe, nats: of the first original,
            then after each request, [steps + 1, probes].
        per_request: Tolerated loss of a request.
        whole: Tolerated loss of the chain.

    Raises:
        ValueError: There is no probe, or no request.

    Example:
        >>> drift([[1.0, 2.0], [1.0, 2.1]], per_request=0.01, whole=0.1).loss > 0.05
        True
    """
    if len(nlls) < 2 or not nlls[0]:
        raise ValueError("drift needs probes, and a model after the first original")
    means = [sum(row) / len(row) for row in nlls]
    losses = [math.exp(mean - means[0]) - 1 for mean in means]
    steps = [after - before for before, after in pairwise(losses)]
    return Drift(
        loss=losses[-1],
        step=steps[-1],
        cusum=cusum(steps, slack=per_request / 2)[-1],
        per_request=per_request,
        whole=whole,
    )
