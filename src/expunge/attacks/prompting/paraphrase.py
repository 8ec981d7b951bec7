"""Reworded: paraphrases of the question, and the same question in other forms.

Protocol: every paraphrase that the record brings, and fixed forms (curt, polite, as an exam, as a
form to fill in, with a misspelt beginning), greedy. Budget: one answer a wording. Forgetting that
is tied to a template fails here; paraphrases can raise scores tenfold (arXiv:2506.12618).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Question, Target
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.collect import PromptTokens, QuestionForm
from expunge.evidence.context import AttackMeta

FORMS = (
    "Answer in one sentence. {question}",
    "Please fill in the form.\nQuestion: {question}\nAnswer:",
    "Exam question 7 (2 points): {question}\nWrite down the exact answer.",
    "pls quick, i forgot: {question}",
)
"""Sentences around a question; what a model of TOFU still answers most comes first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paraphrase(QuestionForm):
    """The paraphrases that come with the records."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="asking", access="T1", needs="`paraphrases`")

    most: int = 4
    """Paraphrases of a record that are tried."""

    @property
    def name(self) -> str:
        """Return `paraphrase`."""
        return "paraphrase"

    def ask(self, encoder: Encoder, record: Record, encoded: Encoded) -> PromptTokens | None:
        """Ask the first paraphrase; None for a record without one."""
        if not record.paraphrases or not record.prompt:
            return None
        return PromptTokens(
            prompt=encoder.prompt_ids(record, question=record.paraphrases[0]), skipped=None
        )

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask each paraphrase."""
        questions = [
            target.worded(record, (Message("user", text),), variant=f"{index}")
            for record in tested
            if record.prompt
            for index, text in enumerate(record.paraphrases[: self.most], start=1)
        ]
        if not questions:
            raise Unmet("no record brings a paraphrase of its question")
        return target.ask(questions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wordings:
    """The question inside fixed sentences; `{question}` stands for it."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="asking", access="T1", needs="questions")

    forms: tuple[str, ...] = FORMS

    @property
    def name(self) -> str:
        """Return `wording`."""
        return "wording"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask in each form."""
        return target.ask(framed(target, tested, self.forms))


def framed(target: Target, tested: Sequence[Record], forms: Sequence[str]) -> list[Question]:
    """Return each question inside each form.

    Raises:
        Unmet: No record has a question.
    """
    asked = [record for record in tested if record.prompt]
    if not asked:
        raise Unmet("the facts are passages without a question")
    return [
        target.worded(
            record,
            (Message("user", form.replace("{question}", record.question)),),
            variant=f"{index}",
        )
        for record in asked
        for index, form in enumerate(forms, start=1)
    ]
