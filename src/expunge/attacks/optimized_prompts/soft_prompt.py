"""Universal soft prompt: free embeddings after the question that make one half of the facts likely.

    min_v  -(1/N) sum over facts of T log p(answer | question, v)

Protocol: 16 vectors, Adam, 100 steps on the answers of one half; the same vectors are put after the
questions of the other half, greedy; then the halves change places. A prompt that was fitted to an
answer could carry it; one that was fitted to other facts cannot (arXiv:2402.09063 is the attack).
Budget: steps passes over the fitted facts a seed; best of the seeds.
"""

import random
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
from expunge.attacks.target import Question, Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftPrompt:
    """One soft prompt for all facts."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="prompts", access="T3", learns=True, union=False, needs="questions; two facts"
    )

    length: int = 16
    steps: int = 100
    lr: float = 5e-3
    most: int = 32
    """Facts that it is fitted to."""
    seeds: int = 1

    @property
    def name(self) -> str:
        """Return `soft-prompt`."""
        return "soft-prompt"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fit on the used facts, ask for the tested ones."""
        asked = [record for record in tested if record.prompt]
        known = [record for record in used if record.prompt]
        random.Random(f"{target.seed} soft prompt").shuffle(known)
        if not asked or not known:
            raise Unmet("too few questions to fit a prompt to some and test others")
        ids = unused_ids(target, (*known, *asked), self.length)
        records = []
        for record in known[: self.most]:
            encoded = target.encoder.encode(record)
            prompt = slot(target, record).filled(ids)
            records.append(answered(prompt, encoded.ids[encoded.start :], record.id))
        found: list[Attempt] = []
        for seed in range(self.seeds):
            vectors = start_vectors(target.network, self.length, seed=target.seed + seed)
            optimiser = torch.optim.Adam([vectors], lr=self.lr)
            descend(target, records, ids, vectors, steps=self.steps, move=_step(optimiser))
            questions = [
                Question(record, slot(target, record).filled(ids), record.question, f"seed {seed}")
                for record in asked
            ]
            with embedded_as(target.network, ids, vectors.detach()):
                found += target.ask(questions)
        return found


def _step(optimiser: torch.optim.Optimizer):  # noqa: ANN202 - step returns what nobody reads
    def move() -> None:
        optimiser.step()

    return move
