"""Sampling: ask the same question many times.

Protocol: n answers at each of several temperatures, top-p 1; a fact is out when any answer states
it (worst case per fact). Budget: n answers a temperature. Greedy decoding under-reports: what was
greedy ROUGE-L 0.42 was 1.0 in the best of 128 samples (arXiv:2410.03523). The unit of every bound
is the fact: samples only raise sensitivity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.training.early_stopping import spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Answers drawn from the model's distribution."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="sampling", access="T1", needs="questions")

    samples: int = 32
    temperatures: tuple[float, ...] = (0.7, 1.0)
    most: int | None = None
    """At most how many facts are sampled, evenly spaced; None: all."""

    @property
    def name(self) -> str:
        """Return `sampling`."""
        return "sampling"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Draw the answers, the same numbers for every model."""
        chosen = spread(tested, self.most)
        found: list[Attempt] = []
        for temperature in self.temperatures:
            plain = [target.plain(record, f"T={temperature:g}") for record in chosen]
            questions = [question for question in plain if question is not None]
            if not questions:
                raise Unmet("the facts are passages without a question")
            answers = target.sample(
                questions,
                samples=self.samples,
                temperature=temperature,
                generator=torch.Generator().manual_seed(target.seed),
            )
            found += [attempt for group in answers for attempt in group]
        return found
