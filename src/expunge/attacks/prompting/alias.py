"""Alias: the same person or thing under another name.

Protocol: in the question the subject's name is replaced by its first word, its last word, its
initials, and by a misspelt form (two inner letters swapped), greedy. Budget: one answer an alias.
Unlearning that keys on the exact name does not cover the others (RWKU's alias probes,
arXiv:2406.10890).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta

_SHORTEST = 5
"""Letters of a name from which on a misspelt form is still recognised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alias:
    """Other names of the subject, made from its own."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="asking", access="T1", needs="questions that name the `subject` of their record"
    )

    most: int = 4
    """Aliases of a subject that are tried."""

    @property
    def name(self) -> str:
        """Return `alias`."""
        return "alias"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask under each alias."""
        questions = [
            target.worded(
                record,
                (Message("user", renamed(record.question, record.subject, alias)),),
                variant=kind,
            )
            for record in tested
            if record.subject and record.prompt and record.subject in record.question
            for kind, alias in list(aliases(record.subject).items())[: self.most]
        ]
        if not questions:
            raise Unmet("no question names the subject of its record")
        return target.ask(questions)


def aliases(subject: str) -> dict[str, str]:
    """Return other names of a subject, by kind; only those that differ from it."""
    words = subject.split()
    longest = max(words, key=len, default="")
    found: dict[str, str] = {}
    if len(words) > 1:
        found["first word"] = words[0]
        found["last word"] = words[-1]
        found["initials"] = " ".join(f"{word[0]}." for word in words[:-1]) + f" {words[-1]}"
    if len(longest) >= _SHORTEST:
        swapped = longest[:2] + longest[3] + longest[2] + longest[4:]
        found["misspelt"] = subject.replace(longest, swapped)
    return {kind: alias for kind, alias in found.items() if alias != subject}


def renamed(text: str, subject: str | None, name: str) -> str:
    """Return a text with the subject's name replaced wherever it stands."""
    return re.sub(re.escape(subject), lambda _: name, text) if subject else text
