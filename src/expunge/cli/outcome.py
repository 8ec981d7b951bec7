"""How a run that was judged ends: its numbers as data, the next command, the exit code."""

from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from expunge.audit.results import Results, Ruling
from expunge.console import Console
from expunge.errors import GateError

_PASSES = frozenset({Ruling.PASS, Ruling.PASS_WITH_SCAR})
_USUAL = "T1"
"""The threat model of a request that names none."""


class Outcome(Protocol):
    """A run folder and what the audit concluded in it."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        ...

    @property
    def results(self) -> Results:
        """Scores, gates and verdict."""
        ...


def conclude(outcome: Outcome, *, console: Console, gate: bool, promise: str = _USUAL) -> int:
    """Say the results as data and what to do next; return the exit code 0.

    Args:
        outcome: The run.
        console: Where to say it.
        gate: Whether anything but a pass is an error.
        promise: The threat model that was asked for. Of the usual one a provisional pass is enough.

    Raises:
        GateError: `gate` is set, and the verdict is neither PASS nor PASS-WITH-SCAR or speaks of a
            weaker adversary than was asked for.
    """
    verdict = outcome.results.verdict
    short = verdict.threat_model < promise and promise > _USUAL
    failed = gate and (verdict.ruling not in _PASSES or short)
    for score in outcome.results.scores:
        console.event("score", asdict(score))
    console.event("verdict", asdict(verdict))
    console.event(
        "done", {"folder": outcome.folder, "ruling": verdict.ruling, "exit": 3 if failed else 0}
    )
    console.line("next", f"expunge report {outcome.folder} --open")
    if failed:
        raise GateError(
            "gate-failed",
            what=f"verdict {verdict.ruling} under {verdict.threat_model} at tier {verdict.tier}"
            + (f"; {promise} was asked for" if short else ""),
            why=verdict.reasons[0] if verdict.reasons else verdict.sentence,
            fix=f"read {outcome.folder / 'report.html'}; the run itself is complete",
        )
    return 0
