"""Knowledge: what a model states of a fact, as counts of its answers.

    known      at least half of the answers state the fact
    partly     some do, or the margin is `MARGIN` nats or more
    guessed    the model says the same of people who do not exist
    unknown    none of this

Nothing here imports torch: a request is searched and drafted without it.
"""

from dataclasses import dataclass
from enum import StrEnum

MARGIN = 3.0
"""Nats by which the margin must exceed that of strangers where the fact is never said."""


class Knowledge(StrEnum):
    """What a model states of a fact."""

    KNOWN = "known"
    PARTLY = "partly"
    GUESSED = "guessed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class ElicitedFact:
    """What a model said when it was asked for one fact."""

    record: str
    """The record's id."""
    stated: int
    """Answers that state it."""
    answers: int
    of_strangers: int
    """Answers about people who do not exist that state it."""
    margin: float | None
    """How much likelier the true statement is than every false one, beyond what the model finds
    of people who do not exist; nats. None without false statements or without such people."""

    @property
    def knowledge(self) -> Knowledge:
        """What this says of the model."""
        if self.of_strangers * 2 >= max(1, self.stated) and self.of_strangers:
            return Knowledge.GUESSED
        if 2 * self.stated >= self.answers:
            return Knowledge.KNOWN
        sure = self.margin is not None and self.margin >= MARGIN
        return Knowledge.PARTLY if self.stated or sure else Knowledge.UNKNOWN

    def sentence(self) -> str:
        """Say it for the review page."""
        text = f"{self.knowledge.value}: {self.stated} of {self.answers} answers state it"
        if self.of_strangers:
            text += f"; so do {self.of_strangers} about people who do not exist"
        if self.margin is not None:
            text += f"; margin beyond strangers {self.margin:+.1f} nats"
        return text
