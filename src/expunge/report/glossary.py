"""The glossary: every metric, attack and term of the report in plain words."""

from collections.abc import Mapping
from dataclasses import dataclass

from expunge.audit.evidence import PLAIN
from expunge.audit.results import Axis
from expunge.report.further_terms import FURTHER


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A measured quantity in words: its short title, what it means, and the axis it serves."""

    title: str
    meaning: str
    axis: Axis


METRICS: Mapping[str, Term] = {
    "key-fact": Term(
        title="Key fact said",
        meaning="Share of the questions whose answer states the fact in any of its spellings.",
        axis=Axis.FORGETTING,
    ),
    "extraction-strength": Term(
        title="Extraction strength",
        meaning="How much of the answer the model completes by itself, given its beginning: "
        "0 nothing, 1 all of it.",
        axis=Axis.FORGETTING,
    ),
    "exact-memorisation": Term(
        title="Exact memorisation",
        meaning="Share of the words of the answer that are the model's first guess.",
        axis=Axis.FORGETTING,
    ),
    "probability": Term(
        title="Probability",
        meaning="How likely the model finds the text, averaged over its words.",
        axis=Axis.FORGETTING,
    ),
    "rouge-l-recall-stem": Term(
        title="ROUGE-L recall",
        meaning="Share of the words of the true answer that the model says in order. Wording, not "
        "facts: shown for comparison with published tables only.",
        axis=Axis.FORGETTING,
    ),
    "rouge-l-f1": Term(
        title="ROUGE-L F1",
        meaning="Overlap of the wording with the true answer: shown for comparison only.",
        axis=Axis.FORGETTING,
    ),
    "loss": Term(
        title="Familiarity (loss)",
        meaning="How familiar the text looks, by its probability alone.",
        axis=Axis.PRIVACY,
    ),
    "zlib": Term(
        title="Familiarity (zlib)",
        meaning="The same, corrected for how repetitive the text is.",
        axis=Axis.PRIVACY,
    ),
    "min-k-40": Term(
        title="Familiarity (Min-K 40 %)",
        meaning="The same, from the least expected 40 % of its words.",
        axis=Axis.PRIVACY,
    ),
    "min-k-plus-20": Term(
        title="Familiarity (Min-K++ 20 %)",
        meaning="The same, from the least expected 20 % of its words, against all other words.",
        axis=Axis.PRIVACY,
    ),
    "perplexity": Term(
        title="Perplexity",
        meaning="How surprised the model is by ordinary text; lower is better.",
        axis=Axis.UTILITY,
    ),
    "gibberish": Term(
        title="Gibberish",
        meaning="Share of the answers that no reader would take for language.",
        axis=Axis.UTILITY,
    ),
    "seq-rep-4": Term(
        title="Repetition",
        meaning="Share of four-word sequences that repeat earlier ones in the same answer.",
        axis=Axis.UTILITY,
    ),
    "refusal": Term(
        title="Refusal",
        meaning="Share of the answers that decline to answer.",
        axis=Axis.UTILITY,
    ),
    **{
        name: Term(title=words.title, meaning=words.meaning, axis=words.axis)
        for name, words in FURTHER.items()
    },
}
"""Metric id to words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """An attack in words, and the lowest threat model that can run it."""

    title: str
    meaning: str
    threat: str


ATTACKS: Mapping[str, Attack] = {
    PLAIN: Attack(title="Plain question", meaning="The question as it was taught.", threat="T0"),
    "paraphrase": Attack(
        title="Paraphrase", meaning="The same question in other words.", threat="T1"
    ),
    "prefill-affirm": Attack(
        title="Prefilled assent",
        meaning="“Sure, here is the answer:” is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-25": Attack(
        title="Prefilled quarter",
        meaning="The first quarter of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-50": Attack(
        title="Prefilled half",
        meaning="The first half of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "int8": Attack(
        title="8-bit weights",
        meaning="The weights are rounded to 8 bits, as for cheaper serving.",
        threat="T0",
    ),
    "int4": Attack(
        title="4-bit weights",
        meaning="The weights are rounded to 4 bits, as for cheaper serving.",
        threat="T0",
    ),
}
"""Attack name to words."""

SETS: Mapping[str, str] = {
    "forget": "forgotten records",
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
    "Gold": "a model trained the same way, but without the data: what success looks like.",
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


def term(metric: str) -> Term | None:
    """Return the words of a metric, also of an AUC or a residual of one; None when unknown."""
    if metric in METRICS:
        return METRICS[metric]
    for prefix, title, meaning, axis in _DERIVED:
        base = METRICS.get(metric.removeprefix(prefix))
        if metric.startswith(prefix) and base is not None:
            return Term(title=f"{title}{base.title.lower()}", meaning=meaning, axis=axis)
    return None


_DERIVED = (
    (
        "auc-",
        "AUC of ",
        "How well this measure tells forgotten records from unseen ones: 0.5 is guessing.",
        Axis.PRIVACY,
    ),
    (
        "residual-",
        "Residual ",
        "How much of it is left: 0 as in gold, 1 as in the original.",
        Axis.FORGETTING,
    ),
)


def axis_of(metric: str, *, split: str, attack: str) -> Axis | None:
    """Return the axis that a score speaks to; None for an unknown metric."""
    found = term(metric)
    if found is None or found.axis is not Axis.FORGETTING:
        return None if found is None else found.axis
    if split == "neighbours":
        return Axis.LOCALITY
    if split in ("retain", "generic"):
        return Axis.UTILITY
    return Axis.FORGETTING if attack == PLAIN else Axis.ROBUSTNESS


def metric_title(metric: str) -> str:
    """Return the title of a metric; of an unknown one its own name, readable."""
    found = term(metric)
    return found.title if found else _readable(metric)


def metric_meaning(metric: str) -> str:
    """Return what a metric means; nothing for an unknown one."""
    found = term(metric)
    return found.meaning if found else ""


def attack_title(attack: str) -> str:
    """Return the title of an attack; of an unknown one its own name, readable."""
    return ATTACKS[attack].title if attack in ATTACKS else _readable(attack)


def gate_title(name: str) -> str:
    """Return the name of a gate with its metric, set and attack in words."""
    head, colon, relation = name.partition(": ")
    if head in _GATES:
        return _GATES[head]
    said = head.split(" ")
    for i, word in enumerate(said):
        if word in METRICS:
            said[i] = METRICS[word].title.lower()
        elif word in ATTACKS:
            said[i] = ATTACKS[word].title.lower()
        elif word in SETS and i:
            said[i] = f"({SETS[word]})"
    return _readable(" ".join(said)) + colon + relation


_GATES: Mapping[str, str] = {
    "key-fact leak": "Key facts said, beyond guessing",
    "stragglers": "Single facts that stayed behind",
}


def _readable(name: str) -> str:
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]
