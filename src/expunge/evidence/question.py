"""A form of the question: one prompt for each record, on the weights as they are or as rounded."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.store import NATIVE, PLAIN, Kind, Unit
from expunge.models.transformer import Network


class PromptTokens(NamedTuple):
    """One prompt for one record."""

    prompt: tuple[int, ...]
    given: tuple[int, ...] = ()
    """Tokens that the attack puts into the model's mouth; they follow the prompt."""
    skipped: int | None = 0
    """How many scored tokens of the record `given` stands for, so that the teacher-forced pass
    tells what the greedy answer is; None when the prompt is not the record's own."""


class QuestionForm(Protocol):
    """A named way to ask; attacks that ask one question a record are such forms."""

    @property
    def name(self) -> str:
        """Name of the test in the evidence, see `Unit.test`."""
        ...

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
        """Return the prompt; None where this cannot be asked about the record."""
        ...

    def held(self, network: Network) -> AbstractContextManager[None]:
        """Hold the weights as this form has them; by default as they are."""
        return nullcontext()


def unit_of(form: QuestionForm, *, role: str, split: str, kind: Kind) -> Unit:
    """Return the unit that a form fills when a model is asked."""
    return Unit.under(form.name, role=role, split=split, kind=kind)


def is_rounded(form: QuestionForm) -> bool:
    """Tell whether a form is asked on rounded weights; then these are scored, too."""
    return unit_of(form, role="", split="forget", kind="answers").precision != NATIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainForm(QuestionForm):
    """The question itself."""

    @property
    def name(self) -> str:
        """Return `plain`."""
        return PLAIN

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
        """Ask the record's own question; a passage of text is not asked for."""
        if not record.prompt:
            return None
        return PromptTokens(prompt=encoded.ids[: encoded.start])
