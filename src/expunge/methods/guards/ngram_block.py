"""N-gram block: never complete a run of tokens of a forget answer (MemFree, arXiv:2210.17546).

    z'(v) = z(v) - 20   if (y_{t-n+1}, ..., y_{t-1}, v) is a run of n tokens of a forget answer

A stop at the last token of each run; the answer goes on with something else. Paraphrases and other
spellings of the same fact are not blocked, and answers shorter than n tokens never are.

The runs stand in `guard.json` as token ids, from which anybody reads most of the answers: the guard
itself is personal data. It is not sealed and stays when the evidence is destroyed, for without the
runs it blocks nothing.

Differs from published code: n is 4, not 10, for answers are short; an exact set, not a Bloom
filter; runs that retain answers hold, too, are free; 20 nats, not a ban, so that likelihoods stay
finite.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Passes
from expunge.methods.guards.base import GuardBench, GuardRules, Ids


def runs(answer: Ids, size: int) -> set[Ids]:
    """Return every run of `size` tokens of an answer.

    Example:
        >>> sorted(runs((5, 6, 7), 2))
        [(5, 6), (6, 7)]
    """
    return {answer[start : start + size] for start in range(len(answer) - size + 1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class NGramBlock:
    """A filter on the output: literal recitation stops."""

    family: ClassVar[str] = "guard"
    advice: ClassVar[str] = "verbatim text behind an interface; a baseline that none should lose to"
    streams: ClassVar[tuple[Stream, ...]] = ()

    size: int = 4
    """n, in tokens."""

    def trains(self, shape: Shape) -> Trains | None:
        """Move nothing."""
        return None

    def passes(self) -> Passes:
        """No forward pass."""
        return Passes(forget=0, retain=0)

    def fit(self, bench: GuardBench) -> GuardRules:
        """List the runs of forget answers that no retain answer holds."""
        listed: set[Ids] = set()
        for record in bench.tokens(Stream.FORGET):
            listed |= runs(record.answer, self.size)
        for record in bench.tokens(Stream.RETAIN):
            listed -= runs(record.answer, self.size)
        bench.progress(1.0, f"{len(listed)} runs of {self.size} tokens")
        return GuardRules(blocked=frozenset(listed))
