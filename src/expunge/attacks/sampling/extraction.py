"""Extraction probability: how likely sampling is to bring the fact, without sampling.

    p_z = prod_t p(y_t | x, y_<t)^(temperature 1),   P(extracted in n queries) = 1 - (1 - p_z)^n

Protocol: p_z of the whole true answer (`answer`) and of the key answer alone (`fact`) after the
plain question; n = 1000 queries (arXiv:2410.19482, (n, p)-discoverable extraction). Budget: one
teacher-forced pass. Frequent names are guessable, so gold's probability under the same n is
subtracted, and the scale is the original's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.context import AttackMeta
from expunge.metrics.memorization import chance_within


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """The probability of at least one verbatim extraction within a number of queries."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="sampling", access="T1", union=False, own_scale=True, needs="nothing more"
    )

    queries: int = 1000

    @property
    def name(self) -> str:
        """Return `extraction`."""
        return "extraction"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Compute the probability of each answer and of each fact."""
        wanted: list[tuple[str, Encoded]] = []
        for record in tested:
            wanted.append(("answer", target.encoder.encode(record)))
            if record.key_answers and record.prompt:
                key = target.encoder.encode_with(record, record.key_answers[0])
                wanted.append(("fact", key))
        scored = target.score([encoded for _, encoded in wanted])
        return [
            Attempt(
                record=encoded.record,
                variant=variant,
                value=chance_within(
                    float(values.logp[: len(values.logp) - int(encoded.ends)].sum()), self.queries
                ),
            )
            for (variant, encoded), values in zip(wanted, scored, strict=True)
        ]
