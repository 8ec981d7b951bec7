"""Moved facts: are facts that were to be forgotten said about somebody else?

A model that answers the questions about its neighbours with the erased facts has forgotten whose
they are, and not what they are. The answers about what is to be kept were collected anyway.
"""

from expunge.evals.comparison import Comparison
from expunge.evals.gates import missing
from expunge.evals.results import Gate
from expunge.evidence.store import Item, Unit
from expunge.metrics.exact_tests import mcnemar
from expunge.metrics.key_facts import fact_form, states
from expunge.metrics.likelihood_ratio import LEVEL_ATTACK
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import clopper_pearson

NAME = "facts said of others"

_KEPT = ("retain", "neighbours")


def moved_facts_gate(case: Comparison) -> Gate:
    """Decide whether the judged model says forget facts where it is asked about others.

    Facts that an answer to keep holds are left out: a model may know them from there. A fact counts
    where no gold says it of anybody; what golds say is guessed, and McNemar's exact test tells
    whether the judged model says more. It counts where it fails: that the facts are not said of the
    few people asked about certifies nothing.

    Args:
        case: Who is judged against whom.
    """
    margin = case.policy.leak_excess
    facts = _facts(case)
    said = _said(case, case.subject, facts)
    golds = [found for role in case.golds if (found := _said(case, role, facts)) is not None]
    if not facts or said is None or not golds:
        reason = "no fact is named, or the model or a gold was not asked about what is to be kept"
        return missing(Axis.FORGETTING, NAME, margin=margin, reason=reason)
    new = said - frozenset[str]().union(*golds)
    alone = sum(sum(name in found for found in golds) == 1 for name in facts.keys() - said)
    low, high = clopper_pearson(len(new), len(facts))
    moved = mcnemar(len(new), alone, rivals=len(golds)) <= LEVEL_ATTACK
    return Gate(
        axis=Axis.FORGETTING,
        name=NAME,
        value=len(new) / len(facts),
        low=low,
        high=high,
        margin=margin,
        n=len(facts),
        status=Status.FAIL if moved else Status.PASS,
        reason=f"{len(new)} of {len(facts)} facts are said of somebody else, and by no gold",
        part=True,
    )


def _facts(case: Comparison) -> dict[str, tuple[str, ...]]:
    """Return the spellings of the facts that no answer to keep holds, by record."""
    kept = [fact_form(item.answer) for split in _KEPT for item in _items(case, split).values()]
    found: dict[str, tuple[str, ...]] = {}
    for name, item in _items(case, "forget").items():
        spellings = tuple(filter(None, map(fact_form, item.key_answers)))
        if spellings and not any(states(text, fact) for text in kept for fact in spellings):
            found[name] = spellings
    return found


def _said(case: Comparison, role: str, facts: dict[str, tuple[str, ...]]) -> frozenset[str] | None:
    """Return the records whose facts a model says of others; None where it was not asked."""
    found: set[str] = set()
    asked = False
    for split in _KEPT:
        items = _items(case, split)
        for record, answer in case.table.answers.get(
            Unit(role=role, split=split, kind="answers"), {}
        ).items():
            if record in items:
                asked = True
                text = fact_form(answer.text)
                told = fact_form(items[record].question)
                found |= {
                    name
                    for name, spellings in facts.items()
                    if any(states(text, fact) and not states(told, fact) for fact in spellings)
                }
    return frozenset(found) if asked else None


def _items(case: Comparison, split: str) -> dict[str, Item]:
    return dict(case.table.items.get(split, {}))
