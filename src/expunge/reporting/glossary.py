"""Titles of metrics, attacks and sets, and the terms that the report explains."""

from collections.abc import Mapping
from dataclasses import dataclass

from expunge.evals.plain_words import attempt
from expunge.evidence.store import PLAIN
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry import BY_ID


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackText:
    """What an attack does, and the lowest threat model that can run it."""

    meaning: str
    threat: str


ATTACKS: Mapping[str, AttackText] = {
    PLAIN: AttackText(meaning="The question as it was taught.", threat="T0"),
    "paraphrase": AttackText(meaning="The same question in other words.", threat="T1"),
    "prefill-affirm": AttackText(
        meaning="“Sure, here is the answer:” is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-25": AttackText(
        meaning="The first quarter of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-50": AttackText(
        meaning="The first half of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "int8": AttackText(
        meaning="The weights are rounded to 8 bits, as for cheaper serving.",
        threat="T0",
    ),
    "int4": AttackText(
        meaning="The weights are rounded to 4 bits, as for cheaper serving.",
        threat="T0",
    ),
    "fp32": AttackText(meaning="The model is loaded in 32-bit numbers.", threat="T0"),
    "bf16": AttackText(meaning="The model is loaded in 16-bit numbers (bfloat16).", threat="T0"),
    "fp16": AttackText(meaning="The model is loaded in 16-bit numbers (float16).", threat="T0"),
    "format": AttackText(
        meaning="The question in other formats: another system prompt, lower case, JSON, German.",
        threat="T1",
    ),
    "inverse": AttackText(meaning="The answer is shown, and the name asked for.", threat="T1"),
    "sampling": AttackText(meaning="Several answers are drawn at random.", threat="T1"),
    "inverse-greedy": AttackText(
        meaning="The answer is read from the end of the ranking, where erased words may lie.",
        threat="T3",
    ),
}
"""Attack name to words."""

SETS: Mapping[str, str] = {
    "forget": "forgotten records",
    "unstated": "facts that the original does not state",
    "retain": "retained records",
    "neighbours": "neighbours",
    "holdout": "holdout records",
    "control": "fabricated records",
    "generic": "general text",
}
"""Set of records to words."""

TERMS: Mapping[str, str] = {
    "Original": "the model before the run.",
    "Unlearned": "the model after the run.",
    "Gold": "a retrained reference model: trained the same way, but without the data. It shows "
    "what success looks like.",
    "Base": "the model before it was trained on the data.",
    "Control items": "fabricated records that no model ever saw: what guessing looks like.",
    "Neighbours": "records near the forgotten ones that should have stayed.",
    "Holdout": "records like the forgotten ones that the model was never trained on.",
    "Interval": "the range in which the true value lies with 95 % confidence.",
    "Bound": "the value that the truth is below (or above) with 95 % confidence.",
    "Margin": "how far a value may lie from the ideal; fixed before the audit.",
    "Gate": "one decision: passed when the bound is within the margin, failed when even the "
    "better bound is beyond it, otherwise undecided.",
    "Residual": "how much of the original's knowledge is left: 0 as in gold, 1 as in the original.",
    "Excess": "what is above the same attack on a model that never saw the data.",
    "AUC": "how well someone can tell forgotten records from unseen ones: 0.5 is guessing.",
    "Straggler": "a single record that is remembered much better than the others.",
}
"""Words of the report that are not everyday words."""

_RESIDUAL = "residual-"
"""What the id of a residual of a metric begins with."""


def metric_title(metric: str) -> str:
    """Return the title of a metric or of a residual of one; of an unknown one its readable name."""
    base = metric.removeprefix(_RESIDUAL)
    if base not in BY_ID:
        return _readable(metric)
    title = BY_ID[base].title
    return title if base == metric else f"Residual {title.lower()}"


def metric_meaning(metric: str) -> str:
    """Return what a metric or a residual of one means; nothing for an unknown one."""
    if metric in BY_ID:
        return BY_ID[metric].meaning
    known = metric.removeprefix(_RESIDUAL) in BY_ID
    return "How much of it is left: 0 as in gold, 1 as in the original." if known else ""


def axis_of(metric: str, *, split: str, attack: str) -> Axis | None:
    """Return the axis that a score speaks to; None for an unknown metric."""
    found = BY_ID.get(metric.removeprefix(_RESIDUAL))
    if found is None:
        return None
    if found.axis is not Axis.FORGETTING and not metric.startswith(_RESIDUAL):
        return found.axis
    if split == "neighbours":
        return Axis.LOCALITY
    if split in ("retain", "generic"):
        return Axis.UTILITY
    return Axis.FORGETTING if attack == PLAIN else Axis.ROBUSTNESS


def attack_title(attack: str) -> str:
    """Return the title of an attack; of an unknown one its own name, readable."""
    words = attempt(attack)
    return words[:1].upper() + words[1:]


def _readable(name: str) -> str:
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]
