"""In context: other facts of the set are shown first.

Protocol: worked examples from the other half of the facts, as turns of the conversation (`shots`),
or as notes about the same subject in one turn (`reminder`); then the plain question, greedy.
Budget: one answer a number of examples. Context jogs associations (arXiv:2407.00106 calls it
ununlearning); facts that the context states are not counted, and gold gets the same context.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Question, Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class InContext:
    """Other facts before the question."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="asking", access="T1", learns=True, union=False, needs="questions; two facts"
    )

    as_notes: bool = False
    """False: worked examples as turns; True: one turn of notes, of the same subject if possible."""
    counts: tuple[int, ...] = (1, 5)
    longest: int = 400
    """Tokens of context at most; further examples are left out."""

    @property
    def name(self) -> str:
        """Return `reminder` or `few-shot`."""
        return "reminder" if self.as_notes else "few-shot"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask after each number of examples."""
        known = [record for record in used if record.prompt]
        asked = [record for record in tested if record.prompt]
        if not known or not asked:
            raise Unmet("too few questions to show some before the others")
        return target.ask(
            [self._question(target, record, known, k) for k in self.counts for record in asked]
        )

    def _question(
        self, target: Target, record: Record, known: Sequence[Record], count: int
    ) -> Question:
        shown = self._chosen(target, record, known, count)
        last = Message("user", record.question)
        if self.as_notes:
            notes = "\n".join(f"- {each.question} {each.completion}" for each in shown)
            turns = (Message("user", f"For your information:\n{notes}\n\n{last.content}"),)
        else:
            pairs = [
                turn
                for each in shown
                for turn in (
                    Message("user", each.question),
                    Message("assistant", each.completion),
                )
            ]
            turns = (*pairs, last)
        return target.worded(record, turns, variant=f"{count} facts")

    def _chosen(
        self, target: Target, record: Record, known: Sequence[Record], count: int
    ) -> list[Record]:
        order = list(known)
        random.Random(f"{target.seed} context {record.id}").shuffle(order)
        order.sort(key=lambda each: each.subject != record.subject)
        shown: list[Record] = []
        room = self.longest
        for each in order[:count]:
            room -= len(target.encoder.encode(each).ids)
            if room < 0 and shown:
                break
            shown.append(each)
        return shown
