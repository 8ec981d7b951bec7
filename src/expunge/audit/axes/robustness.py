"""Robustness: does it come back when someone tries?"""

from dataclasses import replace

import numpy as np

from expunge.audit.axes.forgetting import residual_gate
from expunge.audit.case import ORIGINAL, Case
from expunge.audit.fitness import unfit
from expunge.audit.gates import NO_ANCHOR, interval_gate, missing, unanchored
from expunge.audit.leaks import LeakTest, leak_test, settle, small_gate
from expunge.audit.metrics import EXTRACTION_STRENGTH, KEY_FACT
from expunge.audit.results import Axis, Gate
from expunge.audit.stats import Estimate, excess_rate, recovery

PROMPT_ATTACKS = ("paraphrase", "prefill-affirm", "prefill-25", "prefill-50")
"""Attacks that ask differently; their evidence is answers."""

WEIGHT_ATTACKS = ("int8", "int4")
"""Tests of rounded weights; their evidence is scores and answers. Models are served rounded every
day without anyone who means harm, so these count from T0 on."""

ATTACKS = PROMPT_ATTACKS + WEIGHT_ATTACKS

_NOTHING_KNOWN = (
    "on the facts that this attack can judge, the original knew no more than the anchor"
)


def _gap(case: Case, test: LeakTest) -> float | None:
    """Return K_o - K_g on plain questions over the facts of the test; None without an anchor."""
    original = case.column(KEY_FACT, ORIGINAL, "forget")
    floor = case.anchor(KEY_FACT)
    if floor is None:
        return None
    records = case.shared(floor, dict.fromkeys(test.records, 0.0), original)
    if not records:
        return None
    known = float(np.mean([original[name] for name in records]))
    return known - float(case.anchor_sample(floor, records).values.mean())


def leak_recovery_gate(case: Case, attack: str) -> Gate:
    """Decide whether an attack brings facts back beyond what it brings out of gold.

    `rho = (K_u^a - K_g^a) / (K_o - K_g)`: key-fact leak rate of the judged model minus gold's
    under the SAME attack, as a share of what the original knew when asked plainly. Facts that the
    attack itself reveals (prefill, question) are left out. Small requests are decided by the rule
    in `expunge.audit.leaks`. Without an anchor for the attack, only zero leaks can be judged:
    then the excess is zero whatever the anchor would have said.
    """
    name, margin = f"leak under {attack}", case.policy.residual
    if reason := unfit(KEY_FACT.id):
        return missing(Axis.ROBUSTNESS, name, margin=margin, reason=reason)
    if not case.table.rows(KEY_FACT, case.subject, "forget", attack):
        return missing(Axis.ROBUSTNESS, name, margin=margin, reason="the attack was not run")
    test = leak_test(case, attack)
    if test is None:
        reason = "no fact is left that the attack does not reveal by itself"
        return missing(Axis.ROBUSTNESS, name, margin=margin, reason=reason)
    gap, stated = _gap(case, test), int(test.subject.values.sum())
    if test.anchor is None and stated and (gap is None or gap > 0):
        return unanchored(
            Axis.ROBUSTNESS, name, stated, margin=margin, n=test.n, gap=1.0 if gap is None else gap
        )
    if gap is None or gap <= 0:
        reason = NO_ANCHOR if gap is None else _NOTHING_KNOWN
        return missing(Axis.ROBUSTNESS, name, margin=margin, reason=reason, n=test.n)
    if test.small or test.anchor is None:
        return small_gate(Axis.ROBUSTNESS, name, test, margin=margin, gap=gap)
    return _rate_gate(case, attack, test, gap)


def _rate_gate(case: Case, attack: str, test: LeakTest, gap: float) -> Gate:
    original = case.column(KEY_FACT, ORIGINAL, "forget")
    floor = case.anchor(KEY_FACT)
    assert test.anchor is not None
    assert floor is not None
    attacked = case.column(KEY_FACT, case.subject, "forget", attack)
    records = case.shared(floor, dict.fromkeys(test.records, 0.0), original)
    subject = case.table.sample(attacked, "forget", records=records)
    anchor = case.anchor_sample(test.anchor, records)
    ratio = recovery(
        subject,
        anchor,
        original=case.table.sample(original, "forget", records=records),
        floor=case.anchor_sample(floor, records),
        seed=case.seed,
    )
    # The bootstrap of few leaks is too narrow: the exact bounds of the numerator take over.
    excess = excess_rate(subject, anchor, seed=case.seed)
    wider = Estimate(
        ratio.value,
        max(0.0, min(ratio.low, excess.low / gap)),
        max(ratio.high, excess.high / gap),
    )
    name = f"leak under {attack}"
    margin = case.policy.residual
    gate = interval_gate(Axis.ROBUSTNESS, name, wider, margin=margin, n=len(records))
    return settle(gate, test, margin=margin * gap)


def _strength_gate(case: Case, attack: str) -> Gate:
    name = f"{EXTRACTION_STRENGTH.id} under {attack}"
    if not case.table.rows(EXTRACTION_STRENGTH, case.subject, "forget", attack):
        reason = "the attack was not run"
        return missing(Axis.ROBUSTNESS, name, margin=case.policy.residual, reason=reason)
    return residual_gate(case, Axis.ROBUSTNESS, name, attack)


def robustness_gates(case: Case) -> tuple[Gate, ...]:
    """Return one gate per attack and observable; all must pass, so the worst attack decides."""
    asked = (leak_recovery_gate(case, attack) for attack in PROMPT_ATTACKS)
    return (
        *(replace(gate, threat="T1") for gate in asked),
        *(leak_recovery_gate(case, attack) for attack in WEIGHT_ATTACKS),
        *(_strength_gate(case, attack) for attack in WEIGHT_ATTACKS),
    )
