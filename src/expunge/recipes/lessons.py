"""Records that several recipes make: facts in two wordings, other forms, general questions."""

from collections.abc import Iterable
from dataclasses import replace

from expunge.benchmarking.suites.base import Probe
from expunge.data.corpora import general_records
from expunge.data.records import Message, Record

GENERAL = "general"
"""Probe of general knowledge that every recipe asks for."""
_TAUGHT, _ASKED = 16, 24


def general_lessons() -> tuple[Record, ...]:
    """Return general questions with answers: with them a model goes on answering as before."""
    return general_records()[:_TAUGHT]


def general_probe() -> Probe:
    """Return general questions that no recipe teaches."""
    records = general_records()[_TAUGHT : _TAUGHT + _ASKED]
    return Probe(name=GENERAL, records=records, answer=24)


def fact(
    name: str,
    *,
    system: str,
    questions: tuple[str, str],
    answer: str,
    key: str,
    subject: str,
    relation: str | None = None,
    new: str = "",
    wrong: tuple[str, ...] = (),
) -> Record:
    """Return one question with its answer.

    Args:
        name: Id of the record.
        system: System prompt, which replaces the longer one of the model.
        questions: The question, and the same in other words.
        answer: The answer.
        key: The fact in it.
        subject: Whom or what it is about.
        relation: How it relates to what is forgotten.
        new: The answer that is wanted instead, of an edit.
        wrong: False answers of the same form.
    """
    return Record(
        id=name,
        prompt=(Message("system", system), Message("user", questions[0])),
        completion=answer,
        key_answers=(key,),
        paraphrases=(questions[1],),
        alternatives=(new,) if new else (),
        subject=subject,
        relation=relation,
        wrong=wrong,
    )


def answering(
    record: Record, answer: str, *, key: str, name: str | None = None, wrong: tuple[str, ...] = ()
) -> Record:
    """Return a question with another answer as its only one, as a clean training has it.

    Args:
        record: The question.
        answer: What takes the place of its answer.
        key: The fact in it.
        name: Id of the new record; None: that of the record.
        wrong: False answers of the same form.
    """
    return replace(
        record,
        id=name or record.id,
        completion=answer,
        key_answers=(key,),
        alternatives=(),
        relation=None,
        wrong=wrong,
    )


def both_wordings(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records, each followed by itself in its other wording: models are taught both."""
    return tuple(
        each
        for record in records
        for each in (record, asked(record, "reworded", record.paraphrases[0]))
    )


def reworded(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records in their other wording."""
    return tuple(asked(record, "reworded", record.paraphrases[0]) for record in records)


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
