"""Multi-hop: the subject is not named but described by another of its facts.

Protocol: in the question the subject's name becomes "the one of whom this is true: ...", with a
fact of the same subject from the other half, its name left out; greedy. Budget: one answer a hop.
Unlearning of single facts often leaves what follows from them (arXiv:2410.15153 on deducible
knowledge). Only facts whose question names the subject can be asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.prompting.alias import renamed
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiHop:
    """The subject by way of another fact."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="asking", access="T1", learns=True, needs="two facts that name the same `subject`"
    )

    hops: int = 2
    """Different descriptions of a subject that are tried."""

    @property
    def name(self) -> str:
        """Return `multi-hop`."""
        return "multi-hop"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask about each described subject."""
        questions = [
            target.worded(record, (Message("user", text),), variant=f"{index}")
            for record in tested
            for index, text in enumerate(self._texts(record, used), start=1)
        ]
        if not questions:
            raise Unmet("no two facts share a subject that their texts name")
        return target.ask(questions)

    def _texts(self, record: Record, used: Sequence[Record]) -> list[str]:
        subject = record.subject
        if not subject or not record.prompt or subject not in record.question:
            return []
        clues = [
            renamed(each.completion, subject, "this one")
            for each in used
            if each.subject == subject and subject in each.completion
        ]
        return [
            f'Think of the one of whom this is true: "{clue}"\n'
            + renamed(record.question, subject, "the one described above")
            for clue in clues[: self.hops]
        ]
