"""How terms are weighed in a step: fixed numbers, schedules, and multipliers of constraints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.methods.base import Dual, Term


@dataclass(kw_only=True, slots=True)
class Multipliers:
    """The Lagrange multipliers of terms that are constraints, by the name of the term."""

    duals: Mapping[str, Dual]
    values: dict[str, float]
    limits: dict[str, float]
    """Set at the first step, where a relative limit becomes a number."""

    @staticmethod
    def of(terms: Sequence[Term]) -> "Multipliers":
        """Start the multipliers of these terms."""
        duals = {term.name: term.dual for term in terms if term.dual is not None}
        starts = {name: dual.start for name, dual in duals.items()}
        return Multipliers(duals=duals, values=starts, limits={})

    def step(self, seen: Mapping[str, float], progress: float) -> None:
        """Raise the multiplier of a violated constraint, lower that of a slack one.

        Args:
            seen: Value of each term in this step, without coefficient.
            progress: Share of the run that is over.
        """
        for name, dual in self.duals.items():
            if name not in seen:
                continue
            limit = dual.limit * seen[name] if dual.relative else dual.limit
            limit = self.limits.setdefault(name, limit)
            if progress >= dual.wait:
                moved = self.values[name] + dual.rate * (seen[name] - limit)
                self.values[name] = max(0.0, moved)

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint must hold."""
        return {"values": dict(self.values), "limits": dict(self.limits)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Set what a checkpoint held."""
        self.values.update(state["values"])
        self.limits.update(state["limits"])


def coefficients(
    terms: Sequence[Term], multipliers: Multipliers, progress: float
) -> dict[str, float]:
    """Return the coefficient of each term at this point of the run, 0 to 1."""
    found: dict[str, float] = {}
    for term in terms:
        if term.name in multipliers.values:
            found[term.name] = multipliers.values[term.name]
        else:
            found[term.name] = term.coef(progress) if callable(term.coef) else term.coef
    return found
