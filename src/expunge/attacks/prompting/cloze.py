"""Cloze: the true answer with a gap where the fact was.

Protocol: (a) the model is asked to fill the gap; (b) the answer is begun for it up to the gap and
it goes on, greedy. Budget: two answers a fact. Fill-in-the-blank probes find knowledge that
questions do not (RWKU, arXiv:2406.10890).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Question, Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloze:
    """A gap instead of the fact."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="asking", access="T1", needs="`key_answers` that stand in the answer"
    )

    form: str = "{question}\nFill in the gap: {statement}"
    gap: str = "____"

    @property
    def name(self) -> str:
        """Return `cloze`."""
        return "cloze"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask with the gap, and begin up to it."""
        questions = [question for record in tested for question in self._questions(target, record)]
        if not questions:
            raise Unmet("no answer holds a key answer word for word")
        return target.ask(questions)

    def _questions(self, target: Target, record: Record) -> list[Question]:
        place = first_key(record)
        if place is None or not record.prompt:
            return []
        start, stop = place
        text = record.completion
        statement = text[:start] + self.gap + text[stop:]
        asked = self.form.replace("{question}", record.question).replace("{statement}", statement)
        gap = target.worded(record, (Message("user", asked),), variant="gap")
        if not text[:start].strip():
            return [gap]
        begun = target.worded(
            record,
            (Message("user", record.question),),
            variant="up to the gap",
            prefill=text[:start],
        )
        return [gap, begun]


def first_key(record: Record) -> tuple[int, int] | None:
    """Return where the earliest key answer stands in the answer, as character positions."""
    found = [
        (start, start + len(key))
        for key in record.key_answers
        if key and (start := record.completion.find(key)) >= 0
    ]
    return min(found, default=None)
