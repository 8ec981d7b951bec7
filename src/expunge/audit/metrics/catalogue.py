"""The catalogue: what each metric needs, which way is better, what it costs, where it is defined.

`expunge metrics` lists it and `docs/metrics.md` is written from it. A metric whose need is missing
is `not computable` with the need as the reason; no metric has a default value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Literal

from expunge.audit.metrics import (
    calibration,
    churn,
    comparability,
    dataset_inference,
    depth,
    distance,
    divergence,
    efficiency,
    exposure,
    extraction,
    forget_quality,
    lira,
    low_fpr,
    membership,
    model_utility,
    muse,
    options,
    relative_membership,
    repetition,
    rouge,
    sampling,
    truth_ratio,
    weight_change,
)
from expunge.audit.metrics.exact_memorisation import exact_memorisation
from expunge.audit.metrics.extraction_strength import extraction_strength
from expunge.audit.metrics.gibberish import gibberish
from expunge.audit.metrics.key_fact import key_fact
from expunge.audit.metrics.perplexity import perplexity
from expunge.audit.metrics.probability import probability
from expunge.audit.metrics.refusal import refusal
from expunge.audit.results import Axis
from expunge.errors import UsageError


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
    _entry("truth-share", _F, truth_ratio.truth_share, "lower", "6 TF", Need.RESTATED),
    _entry("truth-ratio", _F, truth_ratio.truth_ratio, "gold", "6 TF", Need.RESTATED),
    _entry(
        "ks-distance",
        _F,
        forget_quality.ks_distance,
        "lower",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "forget-quality",
        _F,
        forget_quality.forget_quality,
        "higher",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "ks-equivalence-p",
        _F,
        forget_quality.equivalence_p,
        "lower",
        "12 TF",
        Need.RESTATED,
        Need.GOLD,
    ),
    _entry(
        "distance-share",
        _F,
        forget_quality.distance_share,
        "higher",
        "18 TF",
        Need.RESTATED,
        Need.GOLD,
        Need.ORIGINAL,
    ),
    _entry("rouge-l-recall-stem", _F, rouge.rouge_l_recall, "lower", "1 GEN", Need.ANSWERS),
    _entry("rouge-l-f1", _F, rouge.rouge_l_f1, "lower", "1 GEN", Need.ANSWERS),
    _entry("discoverable-100", _F, extraction.discoverable, "lower", _SAME, Need.SCORES),
    _entry("samples-needed", _F, extraction.samples_needed, "higher", _SAME, Need.SCORES),
    _entry("verbatim-50", _F, extraction.verbatim, "lower", _SAME, Need.SCORES, Need.LONG),
    _entry("near-verbatim", _F, extraction.near_verbatim, "lower", "about 20 GEN", Need.SCORES),
    _entry(
        "leak-at-k",
        _F,
        sampling.leak_at_k,
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
        relative_membership.reference,
        "gold",
        "1 TF of the reference",
        Need.SCORES,
        Need.HOLDOUT,
        Need.GOLD,
    ),
    _entry("auc-lowercase", _P, relative_membership.lowercase, "gold", "1 TF", Need.HOLDOUT),
    _entry(
        "auc-recall", _P, relative_membership.recall, "gold", "1 long TF", Need.HOLDOUT, Need.PREFIX
    ),
    _entry(
        "auc-gradient",
        _P,
        relative_membership.gradient,
        "gold",
        "1 TF and its backward pass",
        Need.HOLDOUT,
    ),
    _entry("auc-dc-pdd", _P, relative_membership.dc_pdd, "gold", _SAME, Need.HOLDOUT, Need.RETAIN),
    _entry("neighbourhood", _P, relative_membership.neighbourhood, "gold", "26 TF", Need.HOLDOUT),
    _entry("tpr-at-fpr", _P, low_fpr.tpr_at_fpr, "gold", _SAME, Need.HOLDOUT),
    _entry(
        "dataset-inference", _P, dataset_inference.dataset_inference, "gold", _SAME, Need.HOLDOUT
    ),
    _entry("auc-loss-matched", _P, comparability.matched, "gold", _SAME, Need.HOLDOUT, Need.GOLD),
    _entry("auc-words", _P, comparability.word_scores, "gold", "none", Need.HOLDOUT),
    _entry("u-lira", _P, lira.ratios, "gold", "32 trainings", Need.SHADOWS),
    _entry("empirical-epsilon", _P, low_fpr.empirical_epsilon, "lower", "none", Need.SHADOWS),
    _entry("privleak", _P, muse.privleak, "gold", _SAME, Need.HOLDOUT, Need.GOLD),
    _entry(
        "privacy-closeness", _P, muse.privacy_closeness, "higher", _SAME, Need.HOLDOUT, Need.GOLD
    ),
)

_REST = (
    _entry(
        "patching-depth",
        _R,
        depth.erasure_depth,
        "higher",
        "2L + 3 TF",
        Need.GOLD,
        Need.ORIGINAL,
    ),
    _entry("lens-depth", _R, depth.erasure_depth, "higher", "1 TF", Need.GOLD, Need.ORIGINAL),
    _entry("perplexity", _U, perplexity, "lower", "1 TF", Need.GENERIC, gated=True),
    _entry("kl-median", _U, divergence.divergence, "lower", "2 TF", Need.ORIGINAL),
    _entry("kl-p95", _U, divergence.divergence, "lower", "2 TF", Need.ORIGINAL),
    _entry(
        "model-utility", _U, model_utility.model_utility, "higher", "6 TF, 1 GEN", Need.RESTATED
    ),
    _entry("truth-utility", _U, truth_ratio.utility_truth, "higher", "6 TF", Need.RESTATED),
    _entry("option-probability", _U, options.option_probability, "higher", "6 TF", Need.RESTATED),
    _entry("choice-accuracy", _U, options.choice_accuracy, "higher", "4 TF", Need.RESTATED),
    _entry("open-accuracy", _U, key_fact, "higher", "1 GEN", Need.ANSWERS, Need.KEY_FACTS),
    _entry("ece", _U, calibration.expected_calibration_error, "lower", "4 TF", Need.RESTATED),
    _entry("brier", _U, calibration.brier, "lower", "4 TF", Need.RESTATED),
    _entry("gibberish", _U, gibberish, "lower", "1 GEN, 1 TF", Need.ANSWERS, gated=True),
    _entry(
        "seq-rep-4", _U, repetition.sequence_repetition, "lower", "1 GEN", Need.ANSWERS, gated=True
    ),
    _entry("bigram-entropy", _U, repetition.ngram_entropy, "higher", "1 GEN", Need.ANSWERS),
    _entry("refusal", _U, refusal, "gold", "1 GEN", Need.ANSWERS, gated=True),
    _entry("churn", _U, churn.churn, "lower", _SAME, Need.RETAIN, Need.ORIGINAL),
    _entry("distance-response", _L, distance.distance_response, "lower", _SAME, Need.RETAIN),
    *(
        _entry(name, _L, weight_change.weight_change, "lower", "no pass", Need.WEIGHTS)
        for name in ("weight-change", "weight-change-max")
    ),
    _entry("flops", None, efficiency.flops, "lower", "none"),
    _entry("speed-up", None, efficiency.speed_up, "higher", "a gold training", Need.GOLD),
)

CATALOGUE: tuple[Entry, ...] = (*_FORGETTING, *_PRIVACY, *_REST)
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
