"""Embedding attack: free embeddings for each fact, fitted to an affirmative opening only.

    v <- v - step * sign(grad -log p("Sure, here is the answer:" | question, v))

Protocol: 20 vectors a fact after its question, 100 signed steps of 1e-3 (arXiv:2402.09063); then
the opening is begun for the model and it goes on, greedily, with the vectors in place. The target
is the opening and never the answer, so nothing can be injected. Budget: steps passes a fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.optimized_prompts.soft_tokens import (
    answered,
    descend,
    embedded_as,
    slot,
    start_vectors,
    unused_ids,
)
from expunge.attacks.prompting.prefill import OPENING
from expunge.attacks.target import Question, Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingAttack:
    """Vectors for each fact."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="prompts", access="T3", needs="questions")

    length: int = 20
    steps: int = 100
    step: float = 1e-3
    together: int = 32
    """Facts that are fitted in one batch."""

    @property
    def name(self) -> str:
        """Return `embedding`."""
        return "embedding"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fit and ask, batch by batch."""
        asked = [record for record in tested if record.prompt]
        if not asked:
            raise Unmet("the facts are passages without a question")
        found: list[Attempt] = []
        for start in range(0, len(asked), self.together):
            found += self._batch(target, asked[start : start + self.together])
        return found

    def _batch(self, target: Target, records: Sequence[Record]) -> list[Attempt]:
        count = self.length
        ids = unused_ids(target, records, count * len(records))
        own = [ids[count * i : count * (i + 1)] for i in range(len(records))]
        begun = [
            target.worded(record, (Message("user", record.question),), variant="", prefill=OPENING)
            for record in records
        ]
        prompts = [
            slot(target, record).filled(tokens) for record, tokens in zip(records, own, strict=True)
        ]
        fitted = [
            answered(prompt, question.given, record.id)
            for record, prompt, question in zip(records, prompts, begun, strict=True)
        ]
        vectors = start_vectors(target.network, len(ids), seed=target.seed)

        def move() -> None:
            assert vectors.grad is not None
            with torch.no_grad():
                vectors.sub_(self.step * vectors.grad.sign())

        descend(target, fitted, ids, vectors, steps=self.steps, move=move)
        questions = [
            Question(record, prompt, record.question, "", question.given)
            for record, prompt, question in zip(records, prompts, begun, strict=True)
        ]
        with embedded_as(target.network, ids, vectors.detach()):
            return target.ask(questions)
