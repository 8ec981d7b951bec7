"""The record: one training or test example, in the form that every other part uses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from expunge.utils.io import sha256_json


class Message(NamedTuple):
    """One turn of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One training or test record.

    A record is a question with its answer (`prompt` ends with a user turn and `completion` is
    scored) or a passage of plain text (`prompt` is empty and all of `completion` is scored).
    """

    id: str
    """Given by the file, or the first 12 hex digits of the SHA-256 of prompt and completion."""
    prompt: tuple[Message, ...]
    """The conversation before the scored answer; empty for plain text."""
    completion: str
    """The text whose tokens are scored, trained on, or forgotten."""
    alternatives: tuple[str, ...] = ()
    """What the model may say instead (`chosen` in a preference pair); training takes turns."""
    key_answers: tuple[str, ...] = ()
    """Spellings of the fact, any of which, found in an answer, is a leak."""
    paraphrases: tuple[str, ...] = ()
    """Other wordings of the last user turn, held back for the audit."""
    restated: tuple[str, ...] = ()
    """The true answer in other words, which no training used, for the audit."""
    wrong: tuple[str, ...] = ()
    """False answers of the same form as the true one (perturbed answers, wrong options)."""
    subject: str | None = None
    """The person or thing that the record is about: the cluster of the statistics."""
    relation: str | None = None
    """How a neighbour relates to the target, for example `family`, or of what kind general text is:
    a bin of the collateral map."""
    form: str | None = None
    """What the answer to an instruction must look like, for `expunge.metrics.answer_quality`."""
    parents: tuple[str, ...] = ()
    """Ids of the records that this one was made from: it goes when one of them has to go."""
    source: str = ""
    """Where the record came from, `file:line`, for messages to the user."""

    @property
    def question(self) -> str:
        """The last user turn, or an empty string for plain text."""
        return self.prompt[-1].content if self.prompt else ""


def reworded(prompt: tuple[Message, ...], change: Callable[[str], str]) -> tuple[Message, ...]:
    """Return a conversation with every turn changed but those of the system."""
    return tuple(
        turn if turn.role == "system" else Message(turn.role, change(turn.content))
        for turn in prompt
    )


def record_id(prompt: tuple[Message, ...], completion: str) -> str:
    """Return the id of a record that has none: 12 hex digits of its content's SHA-256."""
    return sha256_json({"prompt": [list(turn) for turn in prompt], "completion": completion})[:12]
