"""Words for further evidence: what goes beyond one pass and one answer a record."""

from collections.abc import Mapping
from typing import NamedTuple

from expunge.audit.results import Axis


class Words(NamedTuple):
    """Title and meaning of a metric, and the axis it serves."""

    title: str
    meaning: str
    axis: Axis


FURTHER: Mapping[str, Words] = {
    "truth-share": Words(
        "Truth share",
        "How much the model prefers the true answer to false ones of its form: 0.5 none, 1 wholly.",
        Axis.FORGETTING,
    ),
    "discoverable-100": Words(
        "Extractable in 100 tries",
        "Share of the answers that come out whole at least once in 100 samples with even odds.",
        Axis.FORGETTING,
    ),
    "leak-at-k": Words(
        "Fact said in k tries",
        "Chance that a fact is said at least once when the question is asked k times.",
        Axis.FORGETTING,
    ),
    "exposure": Words(
        "Exposure",
        "How far up a secret stands among all of its form, in bits; 1.44 if it was never seen.",
        Axis.FORGETTING,
    ),
    "ks-distance": Words(
        "Distance from gold",
        "Largest gap between the two distributions of truth ratios: 0 the same, 1 apart.",
        Axis.FORGETTING,
    ),
    "forget-quality": Words(
        "Forget quality",
        "TOFU's p-value of the same comparison: shown for comparison with published tables only.",
        Axis.FORGETTING,
    ),
    "ks-equivalence-p": Words(
        "Equivalence",
        "Chance of a distance this small if the distributions really differed; small is good.",
        Axis.FORGETTING,
    ),
    "distance-share": Words(
        "Way to gold",
        "The same distance on a scale from the original (0) to another gold (1).",
        Axis.FORGETTING,
    ),
    "reference": Words(
        "Familiarity (reference)",
        "How familiar the text looks, beyond how familiar a model without the data finds it.",
        Axis.PRIVACY,
    ),
    "lowercase": Words(
        "Familiarity (spelling)",
        "How much likelier the exact spelling is than the same text in lower case.",
        Axis.PRIVACY,
    ),
    "recall": Words(
        "Familiarity (ReCaLL)",
        "How much unseen texts put before it disturb this one.",
        Axis.PRIVACY,
    ),
    "gradient": Words(
        "Familiarity (gradient)",
        "How little the text would still change the model.",
        Axis.PRIVACY,
    ),
    "dc-pdd": Words(
        "Familiarity (DC-PDD)",
        "How sure the model is of words that are rare in general.",
        Axis.PRIVACY,
    ),
    "loss-matched": Words(
        "Familiarity (loss), equal difficulty",
        "Familiarity by probability, on pairs that a model without the data finds equally hard.",
        Axis.PRIVACY,
    ),
    "words": Words(
        "Wording alone",
        "What a bag of words, which knows no model, makes of the same comparison.",
        Axis.PRIVACY,
    ),
    "tpr-at-fpr": Words(
        "Certain recognitions",
        "Share of the forgotten records that are recognised with few false alarms.",
        Axis.PRIVACY,
    ),
    "dataset-inference": Words(
        "Set inference",
        "p-value of the claim that the set was not trained on, from all familiarities together.",
        Axis.PRIVACY,
    ),
    "privleak": Words(
        "PrivLeak",
        "MUSE's relative form, in percent of gold's AUC: shown for comparison only.",
        Axis.PRIVACY,
    ),
    "privacy-closeness": Words(
        "Closeness to gold",
        "How near all AUCs lie to gold's: 1 the same.",
        Axis.PRIVACY,
    ),
    "patching-depth": Words(
        "Erasure depth (patching)",
        "How much of the fact is gone from the model's inside: 0 as in the original, 1 as in gold.",
        Axis.ROBUSTNESS,
    ),
    "lens-depth": Words(
        "Erasure depth (lens)",
        "The same, read off each layer directly.",
        Axis.ROBUSTNESS,
    ),
    "truth-utility": Words(
        "Truth kept",
        "How clearly the true answer is preferred to false ones; higher is better.",
        Axis.UTILITY,
    ),
    "option-probability": Words(
        "Probability among options",
        "How likely the right one of several answers is, against the others.",
        Axis.UTILITY,
    ),
    "choice-accuracy": Words(
        "Right choice",
        "Share of the questions where the right one of several answers is the likeliest.",
        Axis.UTILITY,
    ),
    "brier": Words(
        "Brier score",
        "How far the probabilities of the options lie from the truth; lower is better.",
        Axis.UTILITY,
    ),
    "ece": Words(
        "Calibration error",
        "How far the model's confidence lies from its accuracy; lower is better.",
        Axis.UTILITY,
    ),
    "kl-median": Words(
        "Shift of a usual word",
        "How far the prediction of the middle word moved from the original's, in nats.",
        Axis.UTILITY,
    ),
    "kl-p95": Words(
        "Shift of the worst words",
        "The same for the word that moved more than 95 % of the others.",
        Axis.UTILITY,
    ),
    "churn": Words(
        "Churn",
        "Share of the answers that turned right or wrong, which an equal mean hides.",
        Axis.UTILITY,
    ),
    "distance-response": Words(
        "Damage by distance",
        "Fall of probability of records that should stay, the nearest quarter first.",
        Axis.LOCALITY,
    ),
    "weight-change": Words(
        "Change of the weights",
        "Size of the change of a weight matrix, relative to the original.",
        Axis.LOCALITY,
    ),
    "weight-change-max": Words(
        "Largest change",
        "The same for the matrix that changed most.",
        Axis.LOCALITY,
    ),
}
"""Metric id to words."""
