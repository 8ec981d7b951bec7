"""What an attack is: another way to ask, or weights held at fewer bits, or both."""

from collections.abc import Callable
from typing import NamedTuple

from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.store import NATIVE, PLAIN, Kind, Unit


class PromptTokens(NamedTuple):
    """One prompt for one record."""

    prompt: tuple[int, ...]
    given: tuple[int, ...] = ()
    """Tokens that the attack puts into the model's mouth; they follow the prompt."""
    skipped: int | None = 0
    """How many scored tokens of the record `given` stands for, so that the teacher-forced pass
    tells what the greedy answer is; None when the prompt is not the record's own."""


class QuestionForm(NamedTuple):
    """A named way to ask, on the weights as they are or rounded to `bits`."""

    name: str
    """`plain` when the question is asked as it is and only the weights are rounded."""
    ask: Callable[[Encoder, Record, Encoded], PromptTokens | None]
    """Returns None where the attack cannot be made on this record."""
    bits: int | None = None

    @property
    def precision(self) -> str:
        """What the weights are rounded to, as evidence names it."""
        return NATIVE if self.bits is None else f"int{self.bits}"

    @property
    def test(self) -> str:
        """The name of the test in the evidence, see `Unit.test`."""
        return self.unit(role="", split="forget", kind="answers").test

    def unit(self, *, role: str, split: str, kind: Kind) -> Unit:
        """Return the unit that this attack on a model fills."""
        return Unit(role=role, split=split, attack=self.name, precision=self.precision, kind=kind)


def plain(encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
    """Ask the record's own question; a passage of text is not asked for."""
    if not record.prompt:
        return None
    return PromptTokens(prompt=encoded.ids[: encoded.start])


PLAIN_ATTACK = QuestionForm(name=PLAIN, ask=plain)
"""Not an attack: the question itself."""
