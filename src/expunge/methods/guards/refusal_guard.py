"""Refusal guard: a probe on the prompt, and one fixed reply (baseline of arXiv:2403.03329).

    score(x) = w . mean_t h_l(x)_t          mean over the prompt's own tokens, l the middle block
    p(y_t | x) = 1[y_t = reply_t], up to exp(-20),   if score(x) > threshold

What the probe misses reaches the original as it is. A forced beginning of the answer does not help
an attacker here, another wording of the question may.

Differs from published code: that puts an instruction into the prompt or filters the output with
another model; this reads the model's own states and needs neither.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Passes
from expunge.methods.guards.base import GuardBench, GuardRules
from expunge.methods.guards.prompt_classifier import fit_probe


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusalGuard:
    """A filter on the input: prompts about the forget set get a refusal."""

    family: ClassVar[str] = "guard"
    advice: ClassVar[str] = "a refusal at once, behind an interface; what the probe misses passes"
    streams: ClassVar[tuple[Stream, ...]] = (Stream.UNANSWERABLE,)

    alarms: float = 0.01
    """Share of retain prompts that the probe may take for forget prompts, about."""

    def trains(self, shape: Shape) -> Trains | None:
        """Move nothing."""
        return None

    def passes(self) -> Passes:
        """Read every prompt up to the middle block."""
        return Passes(forget=0.5, retain=0.5)

    def fit(self, bench: GuardBench) -> GuardRules:
        """Fit the probe; the reply is the first refusal of the request or of expunge's list."""
        probe = fit_probe(bench, self.alarms)
        reply = bench.tokens(Stream.UNANSWERABLE)[0].answer
        return GuardRules(frame=bench.frame, probe=probe, reply=reply)
