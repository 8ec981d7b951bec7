"""ICUL: in-context unlearning (arXiv:2310.07579).

    prompt = [q_r, a_r] * kept  ++  [q_f, a_other] * flipped  ++  [q]

Earlier turns of the conversation answer the forget questions nearest to q with the answer to
another question, and some retain questions truly; then comes q. Nearness: the share of q's
tokens that a forget question has, too.

All forget questions stand in `guard.json` as token ids, with answers to others: the guard itself is
personal data. It is not sealed and stays when the evidence is destroyed, for without the questions
it shows nothing.

Differs from published code: that flips the labels of a classifier, on points known to be queried;
here answers are exchanged, a probe of the model picks the prompts, and the nearest of all forget
questions are shown.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Passes
from expunge.methods.guards.base import GuardBench, GuardRules, Shots
from expunge.methods.guards.prompt_classifier import fit_probe


@dataclass(frozen=True, kw_only=True, slots=True)
class ICUL:
    """False answers shown in the prompt."""

    family: ClassVar[str] = "guard"
    advice: ClassVar[str] = "for models that learn in context; small ones copy the wrong turn"
    streams: ClassVar[tuple[Stream, ...]] = (Stream.FLIPPED_TURN, Stream.TURN)

    alarms: float = 0.01
    """Share of retain prompts that the probe may take for forget prompts, about."""
    flipped: int = 2
    kept: int = 2

    def trains(self, shape: Shape) -> Trains | None:
        """Move nothing."""
        return None

    def passes(self) -> Passes:
        """Read every prompt up to the middle block."""
        return Passes(forget=0.5, retain=0.5)

    def fit(self, bench: GuardBench) -> GuardRules:
        """Fit the probe and keep the turns to show."""
        probe = fit_probe(bench, self.alarms)
        flipped, kept = bench.tokens(Stream.FLIPPED_TURN), bench.tokens(Stream.TURN)
        shots = Shots(
            near=tuple((turn.prompt, turn.prompt + turn.answer) for turn in flipped),
            number=self.flipped,
            always=tuple(turn.prompt + turn.answer for turn in kept[: self.kept]),
        )
        return GuardRules(frame=bench.frame, probe=probe, shots=shots)
