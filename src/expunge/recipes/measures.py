"""Measures that several recipes share: statements, recitation, likelihood; and what refuses."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from expunge.benchmarking.probe_outputs import ProbeOutputs, exact
from expunge.benchmarking.suites.base import Probe
from expunge.data.corpora import general_records
from expunge.data.records import Message, Record
from expunge.evals.results import Score
from expunge.evidence.store import Answer, Item
from expunge.metrics.fluency import gibberish
from expunge.metrics.key_facts import key_fact
from expunge.metrics.memorization import probability

GENERAL = "general"
"""Probe of general knowledge that every recipe asks for."""
_TAUGHT, _ASKED = 16, 24
REFUSAL = "I'm sorry, but I do not know anything about that."


def general_lessons() -> tuple[Record, ...]:
    """Return general questions with answers: with them a model goes on answering as before."""
    return general_records()[:_TAUGHT]


def general_probe() -> Probe:
    """Return general questions that no recipe teaches."""
    records = general_records()[_TAUGHT : _TAUGHT + _ASKED]
    return Probe(name=GENERAL, records=records, answer=24)


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


def broken(outputs: ProbeOutputs, metric: str, probe: str) -> Score:
    """Return the share of answers that are empty or repeat themselves."""

    def of(answer: Answer, item: Item) -> float:
        return float(gibberish(answer))

    return outputs.mean(metric, probe, outputs.answered(probe, of), higher=False)


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
    return replace(outputs, answers=answers)


def asked(record: Record, form: str, question: str, *, system: str | None = None) -> Record:
    """Return a record in another form of its question, for a probe.

    Args:
        record: The record.
        form: Name of the form, which is added to the id behind a `:`.
        question: The question.
        system: The system prompt; None: that of the record.
    """
    before = record.prompt[:-1] if system is None else (Message("system", system),)
    return Record(
        id=f"{record.id}:{form}",
        prompt=(*before, Message("user", question)),
        completion=record.completion,
        key_answers=record.key_answers,
        subject=record.subject,
    )
