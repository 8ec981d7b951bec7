"""Relearning on unrelated text of the same form.

Protocol: of all records that the request gives for other purposes (strangers first, then retain),
fine-tune on those whose questions and answers are most like the facts in form, by the words that
carry no content, and that name none of their subjects; ask for all facts plainly. Budget: steps x
batch records a setting. Form, not topic, drives much of benign relearning (arXiv:2602.03379).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.finetuning.base import Sweep, tuned_attempts
from expunge.attacks.finetuning.related_text import without, without_facts
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_LONGEST_FORM_WORD = 5
"""Lower-case words up to this length count as form, all others as content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SameSyntax:
    """Unrelated records of the same form."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T2", union=False, needs="retain, holdout or control records"
    )

    sweep: Sweep = field(default_factory=Sweep)
    most: int = 64

    @property
    def name(self) -> str:
        """Return `relearn-syntax`."""
        return "relearn-syntax"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fine-tune and ask."""
        chosen = alike((*target.strangers, *target.retain), tested, self.most)
        if not chosen:
            raise Unmet("there are no retain, holdout or control records to choose from")
        encoded = [target.encoder.encode(record) for record in chosen]
        return tuned_attempts(target, encoded, tested, self.sweep)


def alike(pool: Sequence[Record], facts: Sequence[Record], most: int) -> list[Record]:
    """Return the records nearest in form to any fact (Jaccard index of form words), best first.

    Facts themselves, and records that name a subject or a key answer of a fact, are left out.
    """
    subjects = {fact.subject for fact in facts if fact.subject}
    facts_ids = {fact.id for fact in facts}
    others = [record for record in pool if record.id not in facts_ids]
    free = without(without_facts(others, facts), subjects)
    forms = [form(fact) for fact in facts]
    ranked = sorted(free, key=lambda record: (-_nearest(form(record), forms), record.id))
    return ranked[:most]


def form(record: Record) -> frozenset[str]:
    """Return the pairs of neighbouring form words of a record; content words become a gap."""
    words = [
        word if word == word.lower() and len(word) <= _LONGEST_FORM_WORD else "_"
        for word in _WORD.findall(f"{record.question} | {record.completion}")
    ]
    return frozenset(f"{first} {second}" for first, second in pairwise(words))


def _nearest(own: frozenset[str], forms: Sequence[frozenset[str]]) -> float:
    return max((len(own & other) / max(1, len(own | other)) for other in forms), default=0.0)
