"""Near-verbatim: how likely sampling is to bring the text with a few tokens changed.

    p = sum of p_z over distinct z of T tokens, each within k edits of the true answer
    P(extracted in n queries) = 1 - (1 - p)^n,   k = max(1, floor(edits T))

Protocol: a beam search after the plain question that keeps only beams which can still end within k
edits, and so finds a lower bound of p (arXiv:2603.24917); drawing samples until a near-copy comes
would take about 100,000 of them. T is at most `longest`, temperature 1, n = 1000 queries. Budget:
`width` beams, what as many samples cost. Verbatim extraction misses an answer with one word
changed. Near-copies of common sentences are guessable, so gold's probability under the same n is
subtracted, and the scale is the original's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.metrics.memorization import near_verbatim
from expunge.models.beam_search import Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class NearVerbatim:
    """The probability of at least one near-verbatim extraction within a number of queries."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="sampling", access="T1", union=False, own_scale=True, needs="nothing more"
    )

    width: int = 20
    edits: float = 0.1
    longest: int = 64
    queries: int = 1000

    @property
    def name(self) -> str:
        """Return `near-verbatim`."""
        return "near-verbatim"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Search for near-copies of each answer."""
        wanted: list[Wanted] = []
        for record in tested:
            encoded = target.encoder.encode(record)
            end = min(len(encoded.ids) - int(encoded.ends), encoded.start + self.longest)
            text = encoded.ids[encoded.start : end]
            edits = max(1, int(self.edits * len(text)))
            wanted.append(Wanted(encoded.ids[: encoded.start], text, edits))
        found = target.near_copies(wanted, width=self.width)
        return [
            Attempt(
                record=record.id,
                value=near_verbatim([copy.logp for copy in copies], n=self.queries),
            )
            for record, copies in zip(tested, found, strict=True)
        ]
