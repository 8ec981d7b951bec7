"""Leaked facts: the rule for facts that came back, shared by forgetting and robustness.

It is the same for 5 facts and for 500. A rate of few facts cannot be bounded below a sensible
margin, so the rule asks of every fact that came back whether a model that never saw it would say
it:

- a leak is *new* when the judged model states the fact and no gold does under the same test;
- a new leak is *confirmed* when the likelihood of the true answer is higher than that of a model
  that never saw it can be (`expunge.metrics.residual_memory`), at a level that is shared by all
  new leaks, and nearer the original's. A lucky guess states the fact without that;
- FAIL when a new leak is confirmed, or when the judged model states measurably more facts that
  nobody else states than golds do (McNemar's exact test; without gold Fisher's, against control
  items), or more than guessing brings over all tests (Fisher's exact test);
- PASS without a new leak, or when the likelihoods refute all new leaks and it states no more facts
  than an anchor does, or no more new ones than guessing brings: one, or the 99 % tolerance of
  the rate at which golds state facts over all tests;
- INCONCLUSIVE otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.evals.comparison import Baseline, Comparison, kept_records
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL, PLAIN
from expunge.metrics.base import FACT_LEAK, LOG_LOSS
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.residual_memory import LEVEL, LEVEL_ATTACK, ModelNoise, kept_test
from expunge.metrics.statistics import (
    Sample,
    binomial_tolerance,
    clopper_pearson,
    mcnemar,
    zero_events_needed,
)

SMALL = 59
"""Facts below which even zero leaks do not prove a rate below 5 % with 95 % confidence."""

RISE = 0.05
"""Level of the exact test of more leaks than the golds', shared by all tests of an audit."""

BEYOND_GUESSING = 0.001
"""Chance below which new leaks are more than guesses."""

GUESSES = 0.99
"""Confidence that guessing brings no more facts than are tolerated."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakTest:
    """Which facts came back under one test (plain questions, or one attack)."""

    records: tuple[str, ...]
    subject: Sample
    """1 where the judged model states the fact."""
    anchor: Baseline | None
    new: Flags
    confirmed: Flags
    unchecked: Flags
    """New leaks whose likelihoods were not measured: they may be guesses, or memory."""
    allowed: float
    """Most facts that an anchor states: what guessing alone brings."""
    p: float
    """Chance of so many new leaks in a model that never saw the data."""
    level: float
    """Chance of them from which on they are too many: this test's and model's part of `RISE`."""
    guessing: float
    """Chance of so many new leaks by guessing, as is guessed over all tests."""
    tolerance: int
    """New leaks that guessing brings, one at least."""

    @property
    def n(self) -> int:
        """Number of facts that can be judged under this test."""
        return len(self.records)


def leak_test(case: Comparison, attack: str = PLAIN) -> LeakTest | None:
    """Return the leaks of the judged model under `attack`; None when no record can be judged."""
    leaked = case.column(FACT_LEAK, case.subject, "forget", attack)
    anchor = case.anchor(FACT_LEAK, attack)
    records = case.shared(anchor, leaked) if anchor else tuple(leaked)
    if not records:
        return None
    subject = case.table.sample(leaked, "forget", records=records)
    stated = np.asarray(subject.values > 0, dtype=bool)
    golds = case.gold_columns(FACT_LEAK, "forget", attack)
    if golds:
        guessed = np.array([[column[name] > 0 for name in records] for column in golds], dtype=bool)
        new = stated & ~guessed.any(axis=0)
        allowed = float(guessed.sum(axis=1).max())
        alone = int(((guessed.sum(axis=0) == 1) & ~stated).sum())
        p = mcnemar(int(new.sum()), alone, rivals=len(golds))
    else:
        new = stated
        allowed, p = _against_controls(anchor, int(stated.sum()), len(records))
    confirmed, measured = _confirmed(case, records, new, attack)
    rate, count = guess_rate(case), int(new.sum())
    return LeakTest(
        records=records,
        subject=subject,
        anchor=anchor,
        new=new,
        confirmed=confirmed,
        unchecked=new & ~measured,
        allowed=allowed,
        p=p,
        level=RISE / max(1, _tests(case)) / case.in_turn,
        guessing=guessing(case, count, len(records)),
        tolerance=max(1, binomial_tolerance(len(records), rate, confidence=GUESSES)),
    )


def _tests(case: Comparison) -> int:
    """Count the tests in which the judged model was asked for the facts."""
    asked = ((unit.role, unit.split) for unit in case.table.answers)
    return sum(each == (case.subject, "forget") for each in asked)


def _more_often(count: int, n: int, others: int, asked: int) -> float:
    """Return Fisher's one-sided p-value of `count` in `n` where others have `others` in `asked`."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(count - 1, n + asked, count + others, n))


def guessing(case: Comparison, count: int, n: int) -> float:
    """Return the chance of `count` new facts of `n` by guessing, as is guessed over all tests."""
    return _more_often(count, n, *_guesses(case))


def guess_rate(case: Comparison) -> float:
    """Return the share of questions, over all tests, to which models say a fact they never saw.

    Half a guess more is counted than was seen: that none was seen does not mean that none is made.
    """
    said, asked = _guesses(case)
    return (said + 0.5) / (asked + 1) if asked else 0.0


def _guesses(case: Comparison) -> tuple[int, int]:
    """Return to how many questions, over all tests, a fact was guessed, and how many were asked.

    Golds guess forget facts; without gold, original and judged model guess those of control items.
    """
    roles, split = (case.golds, "forget") if case.golds else ((ORIGINAL, case.subject), "control")
    said = [
        value > 0
        for unit in case.table.answers
        if unit.role in roles and unit.split == split
        for value in case.column(FACT_LEAK, unit.role, split, unit.test).values()
    ]
    return sum(said), len(said)


def _against_controls(anchor: Baseline | None, stated: int, n: int) -> tuple[float, float]:
    """Return how many facts guessing brings, and Fisher's one-sided p-value of `stated`."""
    if anchor is None:
        return 0.0, 1.0
    controls = list(anchor.column.values())
    guessed = sum(value > 0 for value in controls)
    return guessed / len(controls) * n, _more_often(stated, n, guessed, len(controls))


def _confirmed(
    case: Comparison, records: Sequence[str], new: Flags, attack: str
) -> tuple[Flags, Flags]:
    """Return which new leaks the likelihoods confirm, and for which records they were measured.

    The higher of two likelihoods counts: that under the attack, where it has one, and that of the
    plain question.
    """
    count = int(new.sum())
    level = _level(attack)
    kept: set[str] = set()
    measured: set[str] = set()
    for test in dict.fromkeys((PLAIN, attack)):
        names, flags = _kept(case, test, tests=count, level=level)
        measured.update(names)
        kept.update(name for name, flag in zip(names, flags, strict=True) if flag)
    confirmed = np.array([name in kept for name in records], dtype=bool)
    return new & confirmed, np.array([name in measured for name in records], dtype=bool)


def _level(attack: str) -> float:
    return LEVEL if attack == PLAIN else LEVEL_ATTACK


def _kept(
    case: Comparison, attack: str, *, tests: int, level: float
) -> tuple[tuple[str, ...], Flags]:
    """Return the records that a test has likelihoods of, and which of them were kept."""
    none = (), np.zeros(0, dtype=bool)
    found = kept_records(case, attack, level=level, tests=tests)
    if not isinstance(found, str):
        return found.records, found.kept
    if case.golds:
        return none
    own = case.column(LOG_LOSS, case.subject, "forget", attack)
    original = case.column(LOG_LOSS, ORIGINAL, "forget")
    controls = list(case.column(LOG_LOSS, case.subject, "control").values())
    names = tuple(name for name in own if name in original)
    if not names or len(controls) < 2:
        return none
    # Nothing is paired: the mean of control records stands for gold, their scatter for the noise.
    centre, spread = float(np.mean(controls)), float(np.std(controls, ddof=1))
    test = kept_test(
        np.array([own[name] for name in names]),
        np.array([original[name] for name in names]),
        np.full((1, len(names)), centre),
        ModelNoise(spread / math.sqrt(2), 0.0, len(controls) - 1),
    )
    return names, test.kept(tests, level=level)


def leak_status(test: LeakTest) -> Status:
    """Decide by the rule of this module."""
    count = int(test.new.sum())
    if not count:
        return Status.PASS
    if test.confirmed.any() or test.p <= test.level or test.guessing <= BEYOND_GUESSING:
        return Status.FAIL
    no_more = float(test.subject.values.sum()) <= test.allowed
    within = count <= test.tolerance
    settled = (no_more or within) and not test.unchecked.any()
    return Status.PASS if settled else Status.INCONCLUSIVE


def leak_gate(axis: Axis, name: str, test: LeakTest, *, margin: float, gap: float = 1.0) -> Gate:
    """Decide on leaked facts by the rule of this module.

    Args:
        axis: Axis of the gate.
        name: Name of the gate.
        test: The leaks.
        margin: Largest tolerated rate of new leaks, as a share of `gap`; printed with the bounds.
        gap: Share of these facts that the original states beyond the anchor; 1 for plain rates.
    """
    count, n = int(test.new.sum()), test.n
    low, high = clopper_pearson(count, n)
    status = leak_status(test)
    open_ = status is Status.INCONCLUSIVE
    return Gate(
        axis=axis,
        name=name,
        value=count / n / gap,
        low=low / gap,
        high=high / gap,
        margin=margin,
        n=n,
        status=status,
        reason=_words(test, high),
        needed=max(1, zero_events_needed(margin * gap) - n) if open_ else None,
        settle="a further gold model, which shows what guessing brings" if open_ else "",
    )


def _words(test: LeakTest, high: float) -> str:
    count, n = int(test.new.sum()), test.n
    if not count:
        what = f"0 of {n} facts came back beyond what the anchor states"
    else:
        what = (
            f"{count} of {n} facts came back that the anchor does not state on the same record, "
            f"{int(test.confirmed.sum())} of them confirmed by the likelihood of the true answer"
        )
        if test.unchecked.any():
            what += f", which was not measured for {int(test.unchecked.sum())}"
        what += f"; chance of so many without memory {test.p:.2g}"
    return f"{what}; with {n} facts the true rate is below {high:.1%} (95 % confidence)"
