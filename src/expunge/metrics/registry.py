"""The catalogue: what each metric needs, which way is better, what it costs, where it is defined.

`expunge metrics` lists it and `docs/metrics.md` is written from it. A metric whose need is missing
is `not computable` with the need as the reason; no metric has a default value.

Words for further evidence: what goes beyond one pass and one answer a record.

The glossary: every metric, attack and term of the report in plain words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from expunge.errors import UsageError
from expunge.evidence.store import PLAIN
from expunge.metrics import (
    answer_quality,
    efficiency,
    erasure_depth,
    exposure,
    fact_leak,
    fluency,
    key_spans,
    lira,
    membership,
    membership_tests,
    memorization,
    model_drift,
    multiple_choice,
    muse,
    rouge,
    statistics,
    tofu,
)
from expunge.metrics.fluency import gibberish, perplexity, refusal
from expunge.metrics.key_facts import key_fact
from expunge.metrics.memorization import exact_memorisation, extraction_strength, probability
from expunge.metrics.outcomes import Axis


class Need(StrEnum):
    """What a metric cannot do without, in words that finish "needs ..."."""

    SCORES = "token log-probabilities"
    ANSWERS = "written answers"
    SAMPLES = "several sampled answers"
    KEY_FACTS = "records that name their key facts"
    RESTATED = "perturbed answers of the record (`perturbed_answer`, `choices`)"
    GOLD = "a gold model"
    SECOND_GOLD = "two gold models"
    ORIGINAL = "the original model"
    HOLDOUT = "holdout or control records"
    RETAIN = "retained records"
    GENERIC = "general text"
    CANARIES = "planted secrets and the space of their candidates"
    WEIGHTS = "the weights of both models"
    SHADOWS = "shadow models"
    PREFIX = "records that no model was trained on, to put before the text"
    LONG = "texts of at least 100 tokens"


Better = Literal["higher", "lower", "gold"]
"""On the forget set, of the unlearned model; `gold` when the aim is what gold gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One metric as it is declared."""

    id: str
    axis: Axis | None
    """None for what is reported beside the axes (efficiency)."""
    of: Callable[..., Any]
    """The function that computes it; its docstring is the definition."""
    needs: tuple[Need, ...]
    better: Better
    cost: str
    """Per record and model: TF one teacher-forced pass, GEN one greedy answer."""
    gated: bool = False
    """Whether a gate of the verdict reads it; the others are shown for comparison."""

    @property
    def where(self) -> str:
        """Who computes it: an audit, `expunge compat`, a script, or whoever calls the function."""
        return _ELSEWHERE.get(self.id, "audits")


_ELSEWHERE = {
    "samples-needed": "the library only",
    "verbatim-50": "the library only",
    "near-verbatim": "the attack `near-verbatim`, above level quick",
    "leak-at-k": "audits that make the attack `sampling`",
    "neighbourhood": "the library only",
    "bigram-entropy": "`expunge bench rwku`, with trigrams",
    "flops": "the library only",
    "speed-up": "the library only",
    "model-utility": "`expunge compat`, from TOFU's logs",
    "open-accuracy": "audits, as `key-fact` on sets that are kept",
    "truth-ratio": "audits, as `truth-share` and in `ks-distance`",
    "u-lira": "`scripts/u_lira.py`",
    "empirical-epsilon": "`scripts/u_lira.py`",
}
"""Metrics that an audit does not score under their own name."""


def _entry(
    name: str,
    axis: Axis | None,
    of: Callable[..., Any],
    better: Better,
    cost: str,
    *needs: Need,
    gated: bool = False,
) -> Entry:
    return Entry(id=name, axis=axis, of=of, needs=needs, better=better, cost=cost, gated=gated)


_F, _P, _R, _U, _L = Axis.FORGETTING, Axis.PRIVACY, Axis.ROBUSTNESS, Axis.UTILITY, Axis.LOCALITY
_SAME = "none beyond the same pass"

_FORGETTING = (
    _entry(
        "key-fact",
        _F,
        key_fact,
        "lower",
        "1 GEN",
        Need.ANSWERS,
        Need.KEY_FACTS,
        gated=True,
    ),
    _entry(
        "extraction-strength", _F, extraction_strength, "lower", "1 TF", Need.SCORES, gated=True
    ),
    _entry("exact-memorisation", _F, exact_memorisation, "lower", _SAME, Need.SCORES),
    _entry("probability", _F, probability, "lower", _SAME, Need.SCORES, gated=True),
    _entry("truth-share", _F, tofu.truth_share, "lower", "6 TF", Need.RESTATED),
    _entry("truth-ratio", _F, tofu.truth_ratio, "gold", "6 TF", Need.RESTATED),
    _entry(
        "ks-distance",
        _F,
        tofu.ks_distance,
        "lower",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "forget-quality",
        _F,
        tofu.forget_quality,
        "higher",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "ks-equivalence-p",
        _F,
        tofu.equivalence_p,
        "lower",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "distance-share",
        _F,
        tofu.distance_share,
        "higher",
        "18 TF",
        Need.RESTATED,
        Need.GOLD,
        Need.ORIGINAL,
    ),
    _entry("rouge-l-recall-stem", _F, rouge.rouge_l_recall, "lower", "1 GEN", Need.ANSWERS),
    _entry("rouge-l-f1", _F, rouge.rouge_l_f1, "lower", "1 GEN", Need.ANSWERS),
    _entry("discoverable-100", _F, memorization.discoverable, "lower", _SAME, Need.SCORES),
    _entry("samples-needed", _F, memorization.samples_needed, "higher", _SAME, Need.SCORES),
    _entry("verbatim-50", _F, memorization.verbatim, "lower", _SAME, Need.SCORES, Need.LONG),
    _entry("near-verbatim", _F, memorization.near_verbatim, "lower", "about 20 GEN", Need.SCORES),
    _entry(
        "leak-at-k",
        _F,
        memorization.leak_at_k,
        "lower",
        "n GEN",
        Need.SAMPLES,
        Need.KEY_FACTS,
    ),
    _entry("exposure", _F, exposure.exposure, "lower", "1 TF a candidate", Need.CANARIES),
)

_PRIVACY = (
    *(
        _entry(f"auc-{name}", _P, of, "gold", cost, Need.SCORES, Need.HOLDOUT, gated=True)
        for name, of, cost in (
            ("loss", membership.loss, "1 TF"),
            ("zlib", membership.zlib, _SAME),
            ("min-k-40", membership.min_k, _SAME),
            ("min-k-plus-20", membership.min_k_plus, _SAME),
        )
    ),
    _entry(
        "auc-reference",
        _P,
        membership.reference,
        "gold",
        "1 TF of the reference",
        Need.SCORES,
        Need.HOLDOUT,
        Need.GOLD,
    ),
    _entry("auc-lowercase", _P, membership.lowercase, "gold", "1 TF", Need.HOLDOUT),
    _entry("auc-recall", _P, membership.recall, "gold", "1 long TF", Need.HOLDOUT, Need.PREFIX),
    _entry(
        "auc-gradient",
        _P,
        membership.gradient,
        "gold",
        "1 TF and its backward pass",
        Need.HOLDOUT,
    ),
    _entry("auc-dc-pdd", _P, membership.dc_pdd, "gold", _SAME, Need.HOLDOUT, Need.RETAIN),
    _entry("neighbourhood", _P, membership.neighbourhood, "gold", "26 TF", Need.HOLDOUT),
    _entry("tpr-at-fpr", _P, membership_tests.tpr_at_fpr, "gold", _SAME, Need.HOLDOUT),
    _entry(
        "dataset-inference", _P, membership_tests.dataset_inference, "gold", _SAME, Need.HOLDOUT
    ),
    _entry(
        "auc-loss-matched", _P, membership_tests.matched, "gold", _SAME, Need.HOLDOUT, Need.GOLD
    ),
    _entry("auc-words", _P, membership_tests.word_scores, "gold", "none", Need.HOLDOUT),
    _entry("u-lira", _P, lira.ratios, "gold", "32 trainings", Need.SHADOWS),
    _entry(
        "empirical-epsilon", _P, membership_tests.empirical_epsilon, "lower", "none", Need.SHADOWS
    ),
    _entry("privleak", _P, muse.privleak, "gold", _SAME, Need.HOLDOUT, Need.GOLD),
    _entry(
        "privacy-closeness", _P, muse.privacy_closeness, "higher", _SAME, Need.HOLDOUT, Need.GOLD
    ),
)

_REST = (
    _entry(
        "patching-depth",
        _R,
        erasure_depth.erasure_depth,
        "higher",
        "2L + 3 TF",
        Need.GOLD,
        Need.ORIGINAL,
    ),
    _entry(
        "lens-depth", _R, erasure_depth.erasure_depth, "higher", "1 TF", Need.GOLD, Need.ORIGINAL
    ),
    _entry("perplexity", _U, perplexity, "lower", "1 TF", Need.GENERIC, gated=True),
    _entry("kl-median", _U, model_drift.divergence, "lower", "2 TF", Need.ORIGINAL),
    _entry("kl-p95", _U, model_drift.divergence, "lower", "2 TF", Need.ORIGINAL),
    _entry("model-utility", _U, tofu.model_utility, "higher", "6 TF, 1 GEN", Need.RESTATED),
    _entry("truth-utility", _U, tofu.utility_truth, "higher", "6 TF", Need.RESTATED),
    _entry(
        "option-probability",
        _U,
        multiple_choice.option_probability,
        "higher",
        "6 TF",
        Need.RESTATED,
    ),
    _entry("choice-accuracy", _U, multiple_choice.choice_accuracy, "higher", "4 TF", Need.RESTATED),
    _entry("open-accuracy", _U, key_fact, "higher", "1 GEN", Need.ANSWERS, Need.KEY_FACTS),
    _entry("ece", _U, multiple_choice.expected_calibration_error, "lower", "4 TF", Need.RESTATED),
    _entry("brier", _U, multiple_choice.brier, "lower", "4 TF", Need.RESTATED),
    _entry("gibberish", _U, gibberish, "lower", "1 GEN, 1 TF", Need.ANSWERS, gated=True),
    _entry(
        "seq-rep-4", _U, fluency.sequence_repetition, "lower", "1 GEN", Need.ANSWERS, gated=True
    ),
    _entry("bigram-entropy", _U, fluency.ngram_entropy, "higher", "1 GEN", Need.ANSWERS),
    _entry("refusal", _U, refusal, "gold", "1 GEN", Need.ANSWERS, gated=True),
    _entry("churn", _U, model_drift.churn, "lower", _SAME, Need.RETAIN, Need.ORIGINAL),
    _entry("distance-response", _L, model_drift.distance_response, "lower", _SAME, Need.RETAIN),
    *(
        _entry(name, _L, model_drift.weight_change, "lower", "no pass", Need.WEIGHTS)
        for name in ("weight-change", "weight-change-max")
    ),
    _entry("flops", None, efficiency.flops, "lower", "none"),
    _entry("speed-up", None, efficiency.speed_up, "higher", "a gold training", Need.GOLD),
)

_MEANING = (
    _entry(
        "fact-leak",
        _F,
        fact_leak.leaks_fact,
        "lower",
        "1 GEN",
        Need.ANSWERS,
        Need.KEY_FACTS,
        gated=True,
    ),
    *(
        _entry(name, _F, key_spans.span_probability, "gold", _SAME, Need.SCORES)
        for name in ("span-first", "span-least", "span-onward")
    ),
    _entry("malformed", _U, answer_quality.malformed, "lower", "1 GEN", Need.ANSWERS, gated=True),
    _entry("own-nll", _P, answer_quality.own_nll, "gold", "1 TF", Need.ANSWERS),
    _entry(
        "confident-falsehood",
        _F,
        answer_quality.confident_falsehood,
        "gold",
        "none beyond own-nll",
        Need.ANSWERS,
        Need.KEY_FACTS,
    ),
    _entry(
        "edit-detection", _P, statistics.auc, "gold", "none beyond own-nll", Need.ANSWERS, Need.GOLD
    ),
)

CATALOGUE: tuple[Entry, ...] = (*_FORGETTING, *_PRIVACY, *_MEANING, *_REST)
"""Every metric, by axis."""


_DIRECTION = {"higher": "higher is better", "lower": "lower is better", "gold": "as gold is best"}


def named(entry: Entry) -> str:
    """Return the direction of a metric in words."""
    return _DIRECTION[entry.better]


def find(name: str) -> Entry:
    """Return the entry of a metric.

    Raises:
        UsageError: There is none of this name.
    """
    for entry in CATALOGUE:
        if entry.id == name:
            return entry
    near = get_close_matches(name, [entry.id for entry in CATALOGUE], n=1)
    raise UsageError(
        "unknown-metric",
        what=f"there is no metric {name!r}",
        why=f"the nearest name is {near[0]}" if near else "no name is near",
        fix="`expunge metrics` lists all of them",
    )


class MetricText(NamedTuple):
    """Title and meaning of a metric, and the axis it serves."""

    title: str
    meaning: str
    axis: Axis


FURTHER: Mapping[str, MetricText] = {
    "truth-share": MetricText(
        "Truth share",
        "How much the model prefers the true answer to false ones of its form: 0.5 none, 1 wholly.",
        Axis.FORGETTING,
    ),
    "fact-leak": MetricText(
        "Key fact given away",
        "Share of the answers that give the fact away, wholly or in part, beyond what a model "
        "without the data says.",
        Axis.FORGETTING,
    ),
    "span-first": MetricText(
        "Probability of the fact's first token",
        "How likely the model begins the fact, after the true words before it.",
        Axis.FORGETTING,
    ),
    "span-least": MetricText(
        "Probability of the fact's least likely token",
        "How likely the model says the token of the fact that it is least ready to say.",
        Axis.FORGETTING,
    ),
    "span-onward": MetricText(
        "Probability of the fact behind its dam",
        "How likely the model completes the fact once its least likely token has been said; high "
        "means that one token hides the fact.",
        Axis.FORGETTING,
    ),
    "confident-falsehood": MetricText(
        "Confident falsehood",
        "Share of the answers that are wrong, and that the model is sure of.",
        Axis.FORGETTING,
    ),
    "own-nll": MetricText(
        "Doubt of its own answers",
        "How unlikely the model finds the words that it says itself; higher means less sure.",
        Axis.PRIVACY,
    ),
    "edit-detection": MetricText(
        "Edit detection",
        "How well the model's doubt of its answers tells it from a model without the data: 0.5 not "
        "at all, 1 always.",
        Axis.PRIVACY,
    ),
    "malformed": MetricText(
        "Malformed answers",
        "Share of the answers that no careful writer would write: odd words, stammering, loops.",
        Axis.UTILITY,
    ),
    "discoverable-100": MetricText(
        "Extractable in 100 tries",
        "Share of the answers that come out whole at least once in 100 samples with even odds.",
        Axis.FORGETTING,
    ),
    "leak-at-k": MetricText(
        "Fact said in k tries",
        "Chance that a fact is said at least once when the question is asked k times.",
        Axis.FORGETTING,
    ),
    "exposure": MetricText(
        "Exposure",
        "How far up a secret stands among all of its form, in bits; 1.44 if it was never seen.",
        Axis.FORGETTING,
    ),
    "ks-distance": MetricText(
        "Distance from gold",
        "Largest gap between the two distributions of truth ratios: 0 the same, 1 apart.",
        Axis.FORGETTING,
    ),
    "forget-quality": MetricText(
        "Forget quality",
        "TOFU's p-value of the same comparison: shown for comparison with published tables only.",
        Axis.FORGETTING,
    ),
    "ks-equivalence-p": MetricText(
        "Equivalence",
        "Chance of a distance this small if the distributions really differed; small is good.",
        Axis.FORGETTING,
    ),
    "distance-share": MetricText(
        "Way to gold",
        "The same distance on a scale from the original (0) to another gold (1).",
        Axis.FORGETTING,
    ),
    "reference": MetricText(
        "Familiarity (reference)",
        "How familiar the text looks, beyond how familiar a model without the data finds it.",
        Axis.PRIVACY,
    ),
    "lowercase": MetricText(
        "Familiarity (spelling)",
        "How much likelier the exact spelling is than the same text in lower case.",
        Axis.PRIVACY,
    ),
    "recall": MetricText(
        "Familiarity (ReCaLL)",
        "How much unseen texts put before it disturb this one.",
        Axis.PRIVACY,
    ),
    "gradient": MetricText(
        "Familiarity (gradient)",
        "How little the text would still change the model.",
        Axis.PRIVACY,
    ),
    "dc-pdd": MetricText(
        "Familiarity (DC-PDD)",
        "How sure the model is of words that are rare in general.",
        Axis.PRIVACY,
    ),
    "loss-matched": MetricText(
        "Familiarity (loss), equal difficulty",
        "Familiarity by probability, on pairs that a model without the data finds equally hard.",
        Axis.PRIVACY,
    ),
    "words": MetricText(
        "Wording alone",
        "What a bag of words, which knows no model, makes of the same comparison.",
        Axis.PRIVACY,
    ),
    "tpr-at-fpr": MetricText(
        "Certain recognitions",
        "Share of the forgotten records that are recognised with few false alarms.",
        Axis.PRIVACY,
    ),
    "dataset-inference": MetricText(
        "Set inference",
        "p-value of the claim that the set was not trained on, from all familiarities together.",
        Axis.PRIVACY,
    ),
    "privleak": MetricText(
        "PrivLeak",
        "MUSE's relative form, in percent of gold's AUC: shown for comparison only.",
        Axis.PRIVACY,
    ),
    "privacy-closeness": MetricText(
        "Closeness to gold",
        "How near all AUCs lie to gold's: 1 the same.",
        Axis.PRIVACY,
    ),
    "patching-depth": MetricText(
        "Erasure depth (patching)",
        "How much of the fact is gone from the model's inside: 0 as in the original, 1 as in gold.",
        Axis.ROBUSTNESS,
    ),
    "lens-depth": MetricText(
        "Erasure depth (lens)",
        "The same, read off each layer directly.",
        Axis.ROBUSTNESS,
    ),
    "truth-utility": MetricText(
        "Truth kept",
        "How clearly the true answer is preferred to false ones; higher is better.",
        Axis.UTILITY,
    ),
    "option-probability": MetricText(
        "Probability among options",
        "How likely the right one of several answers is, against the others.",
        Axis.UTILITY,
    ),
    "choice-accuracy": MetricText(
        "Right choice",
        "Share of the questions where the right one of several answers is the likeliest.",
        Axis.UTILITY,
    ),
    "brier": MetricText(
        "Brier score",
        "How far the probabilities of the options lie from the truth; lower is better.",
        Axis.UTILITY,
    ),
    "ece": MetricText(
        "Calibration error",
        "How far the model's confidence lies from its accuracy; lower is better.",
        Axis.UTILITY,
    ),
    "kl-median": MetricText(
        "Shift of a usual word",
        "How far the prediction of the middle word moved from the original's, in nats.",
        Axis.UTILITY,
    ),
    "kl-p95": MetricText(
        "Shift of the worst words",
        "The same for the word that moved more than 95 % of the others.",
        Axis.UTILITY,
    ),
    "churn": MetricText(
        "Churn",
        "Share of the answers that turned right or wrong, which an equal mean hides.",
        Axis.UTILITY,
    ),
    "distance-response": MetricText(
        "Damage by distance",
        "Fall of probability of records that should stay, the nearest quarter first.",
        Axis.LOCALITY,
    ),
    "weight-change": MetricText(
        "Change of the weights",
        "Size of the change of a weight matrix, relative to the original.",
        Axis.LOCALITY,
    ),
    "weight-change-max": MetricText(
        "Largest change",
        "The same for the matrix that changed most.",
        Axis.LOCALITY,
    ),
}
"""Metric id to words."""


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
class AttackText:
    """An attack in words, and the lowest threat model that can run it."""

    title: str
    meaning: str
    threat: str


ATTACKS: Mapping[str, AttackText] = {
    PLAIN: AttackText(
        title="Plain question", meaning="The question as it was taught.", threat="T0"
    ),
    "paraphrase": AttackText(
        title="Paraphrase", meaning="The same question in other words.", threat="T1"
    ),
    "prefill-affirm": AttackText(
        title="Prefilled assent",
        meaning="“Sure, here is the answer:” is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-25": AttackText(
        title="Prefilled quarter",
        meaning="The first quarter of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "prefill-50": AttackText(
        title="Prefilled half",
        meaning="The first half of the true answer is put into the model's mouth.",
        threat="T1",
    ),
    "int8": AttackText(
        title="8-bit weights",
        meaning="The weights are rounded to 8 bits, as for cheaper serving.",
        threat="T0",
    ),
    "int4": AttackText(
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
