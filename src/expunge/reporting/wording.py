"""Plain words: what rulings, axes and numbers mean to a reader who is not a researcher.

The report, the model card and the terminal say the same sentences because they all come from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.evals.results import Gate, Results, Ruling, Score
from expunge.evals.verdict import HIGHEST
from expunge.evidence.context import AuditContext
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import clopper_pearson
from expunge.reporting.examples import Count

THREATS: Mapping[str, str] = {
    "T0": "someone who uses the product in the ordinary way",
    "T1": "someone who asks repeatedly and with trick prompts, but has no access to the weights",
    "T2": "someone who may also train the model further",
    "T3": "someone who has the model files and every means to examine them",
}
"""Threat model to the person it describes."""

TIERS: Mapping[str, str] = {
    "G1": "models trained again from the start without the data",
    "G2": "models whose last training stage was repeated without the data",
    "G3": "the model before that stage, and fabricated records that no model ever saw",
    "G4": "fabricated records that no model ever saw; there was no model without the data",
}
"""Gold tier to what stands for a model that never saw the data."""

GOALS: Mapping[str, str] = {
    "removal": "The influence of the data should be gone.",
    "suppression": "The data should not be said any more. It may still be in the weights.",
    "edit": "Something else should be said instead.",
}
"""Goal class of the request in one sentence."""

AXES: Mapping[Axis, str] = {
    Axis.FORGETTING: "Does the model still give the data away when asked?",
    Axis.PRIVACY: "Can an expert tell that the model was trained on the data?",
    Axis.ROBUSTNESS: "Does the data come back under attack?",
    Axis.UTILITY: "Is the model as able as before?",
    Axis.LOCALITY: "Do related subjects that should stay still work?",
}
"""The question that each axis answers."""

STATUS_WORDS: Mapping[Status, str] = {
    Status.PASS: "within the limit",
    Status.FAIL: "over the limit",
    Status.INCONCLUSIVE: "undecided",
    Status.SCAR: "over-corrected",
    Status.NOT_COMPUTABLE: "not measured",
}
"""Status of a gate in words."""

_ACTIONS: Mapping[Ruling, tuple[str, str]] = {
    Ruling.PASS: ("Release", "for use by {who}. Audit again after any change to the model."),
    Ruling.PASS_WITH_SCAR: (
        "Release with care",
        "The data does not come back, but the model reacts unusually to it: whoever examines the "
        "model closely could tell that something was removed. Retrain more gently if that matters.",
    ),
    Ruling.FAIL_RESIDUAL: (
        "Hold and retrain",
        "Do not release this model. Train longer, with a stronger method, or on more wordings of "
        "the same facts; then audit again.",
    ),
    Ruling.FAIL_DAMAGE: (
        "Hold and retrain",
        "Do not release this model. Give more records to keep, near the subject above all, or stop "
        "the training earlier; then audit again.",
    ),
    Ruling.INCONCLUSIVE: (
        "Hold and add facts",
        "The audit could not decide. {needed} Then audit again.",
    ),
    Ruling.NOTHING_TO_FORGET: (
        "Nothing to do",
        "The original does not measurably hold the data. Keep this report as the answer to the "
        "request; check that the records are spelled as the model would have seen them.",
    ),
    Ruling.INVALID: (
        "Do not rely on this audit",
        "The audit failed its own checks. Mend what the self-tests name, then audit again.",
    ),
}

_NEXT: Mapping[Ruling, str] = {
    Ruling.PASS_WITH_SCAR: "forget --config {config} --out {out} --method counterfactual"
    " --set method.margin=0",
    Ruling.FAIL_RESIDUAL: "forget --config {config} --out {out} --set train.epochs=24",
    Ruling.FAIL_DAMAGE: "forget --config {config} --out {out} --set train.lr=5e-4",
    Ruling.INCONCLUSIVE: "audit {folder} --against {folder} --set audit.level=standard",
}
"""What to type after a ruling, where something helps."""


def next_command(ruling: Ruling, folder: Path) -> str | None:
    """Return the command to try after a ruling, with its flags; None where none would help.

    Args:
        ruling: What the audit concluded.
        folder: The run folder.
    """
    text = _NEXT.get(ruling)
    if text is None:
        return None
    values = {"config": folder / "config.toml", "out": f"{folder}-again", "folder": folder}
    return "expunge " + text.format(**values)


WHAT_THIS_IS_NOT = (
    "This report does not prove that the data was deleted. It attests a procedure and its tests: "
    "“came back” and “did not come back” refer to the attempts listed here, at the budget listed "
    "here. No test of a model's behaviour can show that a fact has left its weights. It is not "
    "legal advice."
)
"""What no audit can promise."""

ALWAYS_OUTSIDE = (
    "Other languages than those of the records.",
    "Copies outside the model: training files, retrieval stores, logs, caches, backups.",
    "Models trained from the original, merged with it, or quantised in another way.",
)
"""What no run of expunge looks at."""

RENEWAL = (
    "Audit again after training, merging or quantising the model in any way, and after 12 months."
)
"""When the result expires."""


def percent(fraction: float) -> str:
    """Write a fraction as a percentage without false precision: `14 %`, `1.4 %`, `0.05 %`."""
    value = 100 * fraction
    places = 0 if abs(value) >= 2 else 1 if abs(value) >= 0.1 else 2
    text = f"{value:.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} %".replace("-", "\N{MINUS SIGN}")


def number(value: float) -> str:
    """Write a number so that a column of its like is comparable: `0.950`, `14.2`, `1 240`."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 5e-4:
        text = f"{value:.2e}"
    else:
        places = 3 if size < 10 else 1 if size < 1000 else 0
        text = f"{value:,.{places}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Write a duration: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_sentence(after: Count, before: Count | None) -> str:
    """Say in counts how many facts came back, with the bound that they allow."""
    earlier = f" (before: {before.returned} of {before.facts})" if before else ""
    tries = "1 attempt" if after.attempts == 1 else f"{after.attempts:,} attempts"
    tries = tries.replace(",", "\N{NARROW NO-BREAK SPACE}")
    bound = clopper_pearson(after.returned, after.facts)[1]
    rate = (
        f"With 95 % confidence, fewer than {percent(bound)} of facts of this kind would."
        if after.returned < after.facts
        else "Any share of facts of this kind might."
    )
    return f"{after.returned} of {after.facts} facts came back in {tries}{earlier}. {rate}"


def falls_short(context: AuditContext) -> str:
    """Say why the verdict speaks of a weaker adversary than was asked for."""
    if context.cover:
        return f"whoever holds the weights takes the {context.cover} off"
    if context.threat_model > HIGHEST[context.level]:
        return f"level {context.level} supports no more"
    return "not every attack up to that strength could be made"


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What to do with the model: two or three words, and one or two sentences."""

    title: str
    text: str


def action(results: Results) -> Action:
    """Say what follows from the verdict."""
    verdict = results.verdict
    title, text = _ACTIONS[verdict.ruling]
    if verdict.ruling in (Ruling.PASS, Ruling.PASS_WITH_SCAR) and verdict.provisional:
        return Action(
            title="Go on, do not release yet",
            text="The result is provisional: the quick level is enough to go on working with the "
            "model, not for the decision to release it.",
        )
    needed = max((gate.needed or 0 for gate in results.gates), default=0)
    ask = f"About {needed} more records would settle it." if needed else "More records would help."
    return Action(title=title, text=text.format(who=THREATS[verdict.threat_model], needed=ask))


_SEVERITY = (Status.FAIL, Status.SCAR, Status.INCONCLUSIVE, Status.PASS, Status.NOT_COMPUTABLE)


def worst(gates: tuple[Gate, ...]) -> Gate | None:
    """Return the weakest gate: by status, then by the share of the margin that its bound uses.

    A gate that could not be computed is the last choice: it found no damage and no safety.
    """

    def rank(gate: Gate) -> tuple[int, float]:
        used = gate.high if gate.high is not None else gate.value
        return _SEVERITY.index(gate.status), -(used or 0.0) / gate.margin

    return min(gates, key=rank, default=None)


_ERASURE = (Axis.FORGETTING, Axis.ROBUSTNESS, Axis.PRIVACY)
_DAMAGE = (Axis.UTILITY, Axis.LOCALITY)
_DECISIVE: Mapping[Ruling, tuple[Status, tuple[Axis, ...]]] = {
    Ruling.FAIL_RESIDUAL: (Status.FAIL, _ERASURE),
    Ruling.FAIL_DAMAGE: (Status.FAIL, _DAMAGE),
    Ruling.INCONCLUSIVE: (Status.INCONCLUSIVE, (*_ERASURE, *_DAMAGE)),
    Ruling.PASS_WITH_SCAR: (Status.SCAR, (Axis.PRIVACY,)),
}


def decisive(results: Results) -> tuple[Gate, ...]:
    """Return the gates that brought about the ruling; none when no single gate did."""
    status, axes = _DECISIVE.get(results.verdict.ruling, (None, ()))
    return tuple(gate for gate in results.gates if gate.status is status and gate.axis in axes)


def finding(gate: Gate, *, title: str) -> str:
    """Say in one line what a gate found: value, bound with 95 % confidence, and limit."""
    if gate.value is None:
        return f"{title}: {gate.reason}"
    bound = f", at most {percent(gate.high)} with 95 % confidence" if gate.high is not None else ""
    said = f"{title}: {percent(gate.value)}{bound}; limit {percent(gate.margin)}"
    # A small request passes by a rule of its own although its bound lies beyond the margin.
    by_rule = gate.status is Status.PASS and gate.high is not None and gate.high > gate.margin
    return f"{said}. Passed by the rule for few records: {gate.reason}" if by_rule else said


def interval(score: Score | Gate) -> str:
    """Write the interval of a score or gate, or nothing when it has none."""
    if score.low is None or score.high is None:
        return ""
    return f"[{number(score.low)}–{number(score.high)}]"  # noqa: RUF001 - an en dash is meant
