"""ECO: corrupt the prompts that a classifier picks out (arXiv:2406.07933).

    x'_i = x_i with probability 1 - s, else a random token       if the probe says so
    s    = the smallest share whose forget answers look unseen:  mean NLL >= that of unseen records

The model answers a garbled question, as one would that knows nothing of it. The share is found once
by going through 1/steps, 2/steps, ..., 1.

Differs from published code: that adds noise to the embeddings of tokens picked by a second
classifier and searches its size by zeroth-order descent against a surrogate model; here whole
tokens of the question are replaced, drawn from those of the retain questions, so the guard works in
front of any model; the classifier is a probe of the model itself; without records known to be
unseen the share is 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Passes
from expunge.methods.guards.base import Corruption, GuardBench, GuardRules
from expunge.methods.guards.prompt_classifier import fit_probe


@dataclass(frozen=True, kw_only=True, slots=True)
class ECO:
    """Corrupted prompts: the model reads another question than the user wrote."""

    family: ClassVar[str] = "guard"
    advice: ClassVar[str] = "utility by construction, behind an interface, for models of any size"
    streams: ClassVar[tuple[Stream, ...]] = ()

    alarms: float = 0.01
    """Share of retain prompts that the probe may take for forget prompts, about."""
    steps: int = 5

    def trains(self, shape: Shape) -> Trains | None:
        """Move nothing."""
        return None

    def passes(self) -> Passes:
        """Read every prompt to the middle, and the forget set once for each share."""
        return Passes(forget=0.5 + self.steps, retain=0.5)

    def fit(self, bench: GuardBench) -> GuardRules:
        """Fit the probe, then raise the share until the forget answers look unseen."""
        probe, frame = fit_probe(bench, self.alarms), bench.frame
        prompts = [record.prompt for record in bench.tokens(Stream.RETAIN)]
        own = {t for p in prompts for t in p[len(frame.head) : len(p) - len(frame.tail)]}
        rules = GuardRules(frame=frame, probe=probe)
        for step in range(1, self.steps + 1):
            corruption = Corruption(
                share=step / self.steps, pool=tuple(sorted(own)), seed=bench.seed
            )
            rules = GuardRules(frame=frame, probe=probe, corruption=corruption)
            nll = bench.forget_nll(rules)
            bench.progress(step / self.steps, f"share {step / self.steps:.2f} forget nll {nll:.2f}")
            if nll >= bench.unseen:
                break
        return rules
