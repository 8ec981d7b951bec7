"""Measures that several recipes share: statements, likelihood, broken answers; and what refuses."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from expunge.benchmarking.probe_outputs import ProbeOutputs, exact
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.fluency import gibberish
from expunge.metrics.key_facts import key_fact
from expunge.metrics.memorization import probability
from expunge.recipes.base import AcceptanceRule, keeps
from expunge.recipes.lessons import GENERAL

GENERAL_KNOWLEDGE, BROKEN = "general knowledge", "broken answers"
GENERAL_KEPT = keeps(GENERAL_KNOWLEDGE, loss=0.05)
FEW_BROKEN = AcceptanceRule(metric=BROKEN, margin=0.05)
REFUSAL = "I'm sorry, but I do not know anything about that."


def stated(outputs: ProbeOutputs, metric: str, probe: str, *, higher: bool) -> Score:
    """Return the share of records whose fact stands in the answer."""
    return outputs.mean(metric, probe, outputs.answered(probe, key_fact), higher=higher)


def stated_in_any(outputs: ProbeOutputs, metric: str, probes: Sequence[str]) -> Score:
    """Return the share of facts that stand in an answer to any form of the question.

    A fact is known by its record's id up to the last `:`, which names the form.
    """
    found: dict[str, float] = {}
    for probe in probes:
        for name, value in outputs.answered(probe, key_fact).items():
            fact = name.rpartition(":")[0] or name
            found[fact] = max(found.get(fact, 0.0), value)
    value = sum(found.values()) / len(found)
    return exact(metric, probes[0], value, n=len(found), higher=False)


def likelihood(outputs: ProbeOutputs, metric: str, probe: str, *, higher: bool | None) -> Score:
    """Return the mean over records of exp(mean log-probability per token) of the true answer."""
    return outputs.mean(metric, probe, outputs.scored(probe, probability), higher=higher)


def general(outputs: ProbeOutputs) -> Score:
    """Return the share of general questions that are answered rightly."""
    return stated(outputs, GENERAL_KNOWLEDGE, GENERAL, higher=True)


def broken(outputs: ProbeOutputs, probe: str) -> Score:
    """Return the share of answers that are empty or repeat themselves."""

    def of(answer: Answer, item: Item) -> float:
        return float(gibberish(answer))

    return outputs.mean(BROKEN, probe, outputs.answered(probe, of), higher=False)


def refusing(outputs: ProbeOutputs, probes: Collection[str]) -> ProbeOutputs:
    """Return the outputs of a wrapper that refuses some questions; its weights are the original's.

    Args:
        outputs: Those of the original.
        probes: Names of the probes whose questions it refuses.
    """
    answers = {
        name: {
            record: replace(row, text=REFUSAL) if name in probes else row
            for record, row in rows.items()
        }
        for name, rows in outputs.answers.items()
    }
    samples = {
        name: {
            record: (REFUSAL,) * len(texts) if name in probes else texts
            for record, texts in rows.items()
        }
        for name, rows in outputs.samples.items()
    }
    return replace(outputs, answers=answers, samples=samples)
