"""Scores of membership inference beyond the four gated ones, and checks of the comparison set."""

from collections.abc import Iterator
from dataclasses import replace

from expunge.evals.comparison import Comparison
from expunge.evals.membership import (
    RELATIVE,
    Sides,
    comparison_split,
    features,
    matched_sides,
    sides,
    words,
)
from expunge.evals.results import Score
from expunge.evidence.store import ORIGINAL, PLAIN
from expunge.metrics.base import MEMBERSHIP
from expunge.metrics.membership_tests import (
    FEWEST,
    comparable,
    dataset_inference,
    measurable_rate,
    tpr_at_fpr,
)
from expunge.metrics.muse import privacy_closeness, privleak
from expunge.metrics.statistics import auc

NO_OTHERS = "not computable: needs holdout or control records"
_WHY = {
    "reference": "needs a gold model to refer to",
    "lowercase": "needs audit.further = true",
    "recall": "needs audit.further = true and more than six holdout or control records",
    "gradient": "needs audit.further = true",
    "dc-pdd": "needs audit.further = true and retained or general text",
}


def membership_scores(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    """Return AUCs of the further scores, the tail, set inference and checks of the set.

    Args:
        case: Who is judged.
        roles: Original, judged model and golds.
    """
    yield _words(case)
    for role in roles:
        for name in RELATIVE:
            yield from _relative(case, name, role)
        yield _matched(case, role)
        yield _tail(case, role)
        yield _set(case, role)
    yield from _against_gold(case)


def _row(metric: str, role: str, reason: str = "") -> Score:
    return Score(metric=metric, role=role, split="forget", attack=PLAIN, value=None, reason=reason)


def _auc(case: Comparison, row: Score, found: Sides | None, missing: str) -> Score:
    if found is None:
        return replace(row, reason=f"not computable: {missing}")
    estimate = found.auc(case.seed)
    return replace(
        row, value=estimate.value, low=estimate.low, high=estimate.high, n=found.n, unit="AUC"
    )


def _words(case: Comparison) -> Score:
    """A bag of words, which knows no model: its AUC says whether the sets differ in wording."""
    row = _auc(
        case,
        _row("auc-words", "texts"),
        words(case),
        "needs holdout or control records about several subjects",
    )
    if row.value is None or row.low is None or row.high is None:
        return row
    good = comparable(row.value, row.low, row.high, n=row.n)
    return replace(
        row,
        reason="the comparison set is worded like the forget set"
        if good
        else "the sets differ in wording alone: no AUC says anything but its distance from gold's",
    )


def _relative(case: Comparison, name: str, role: str) -> Iterator[Score]:
    split = comparison_split(case, role)
    row = _row(f"auc-{name}", role)
    if split is None:
        if role == case.subject:
            yield replace(row, reason=NO_OTHERS)
        return
    of = RELATIVE[name]
    found = sides(case, of(case, role, "forget"), of(case, role, split), split)
    if found is not None or role == case.subject:
        yield _auc(case, row, found, _WHY[name])


def _matched(case: Comparison, role: str) -> Score:
    missing = "needs a gold model, and pairs that it finds equally hard"
    row = _auc(case, _row("auc-loss-matched", role), matched_sides(case, role), missing)
    if row.value is None:
        return row
    return replace(row, reason=f"{row.n} pairs within 0.05 nats under the first gold")


def _tail(case: Comparison, role: str) -> Score:
    split = comparison_split(case, role)
    row = _row("tpr-at-fpr", role)
    if split is None:
        return replace(row, reason=NO_OTHERS)
    columns = [case.column(MEMBERSHIP[0], role, name) for name in ("forget", split)]
    members, others = (list(column.values()) for column in columns)
    rate = measurable_rate(len(others))
    if rate is None or not members:
        return replace(row, reason="not computable: needs at least 20 records to compare with")
    return replace(
        row,
        value=tpr_at_fpr(members, others, rate),
        n=min(len(members), len(others)),
        unit="share",
        reason=f"by LOSS, at {rate:.0%} false positives, the lowest that {len(others)} can measure",
    )


def _set(case: Comparison, role: str) -> Score:
    row = _row("dataset-inference", role)
    found = features(case, role)
    p = None if found is None else dataset_inference(*found, seed=case.seed)
    if found is None or p is None:
        return replace(row, reason=f"not computable: needs {FEWEST} records on each side")
    return replace(
        row,
        value=p,
        n=min(map(len, found)),
        unit="p",
        reason=f"small: the set was trained on; by {found[0].shape[1]} scores",
    )


def _against_gold(case: Comparison) -> Iterator[Score]:
    """Peers' relative forms, beside the differences of AUC that the gates read."""
    if not case.golds:
        reason = "not computable: needs a gold model (and is never replaced by 0.5)"
        yield _row("privleak", case.subject, reason)
        yield _row("privacy-closeness", case.subject, reason)
        return
    gold = _aucs(case, case.golds[0])
    for role in (ORIGINAL, case.subject):
        own = _aucs(case, role)
        row = _row("privleak", role)
        if not own or not gold or max(gold.values()) >= 1 or min(gold.values()) <= 0:
            yield replace(row, reason=NO_OTHERS)
            continue
        value = privleak(1 - own["min-k-40"], 1 - gold["min-k-40"])
        yield replace(row, value=value, unit="percent of gold's AUC", reason="MUSE's; 0 = gold")
        value = privacy_closeness(list(own.values()), list(gold.values()))
        row = replace(row, metric="privacy-closeness", value=value, unit="1 = gold")
        yield replace(row, higher_is_better=True)


def _aucs(case: Comparison, role: str) -> dict[str, float]:
    split = comparison_split(case, role)
    if split is None:
        return {}
    found: dict[str, float] = {}
    for metric in MEMBERSHIP:
        both = sides(
            case, case.column(metric, role, "forget"), case.column(metric, role, split), split
        )
        if both is not None:
            found[metric.id] = auc(both.members.values, both.others.values)
    return found if len(found) == len(MEMBERSHIP) else {}
