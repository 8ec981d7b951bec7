"""Multiple choice with every order of the options that a rotation gives.

Unlearned models often prefer one letter whatever the question. So each question is used as often as
it has options, each time with the options moved on by one place: the right one comes once behind
every letter. `choice-accuracy` is the mean over orders; `choice-consistent` counts the questions
that are answered rightly in every order; `choice-first` keeps the published order, as peers do.
"""

from collections.abc import Mapping
from dataclasses import replace
from string import ascii_uppercase

from expunge.benchmarking.probe_outputs import Column, ProbeOutputs, right
from expunge.benchmarking.suites.base import Probe
from expunge.data.records import Message, Record
from expunge.evals.results import Score


def lettered(name: str, questions: tuple[Record, ...], right_at: tuple[int, ...]) -> Probe:
    """Return the probe for the letter of the right option, in every rotated order.

    Args:
        name: Name of the probe.
        questions: Records with false answers.
        right_at: Published place of the right option of each question, from 0.
    """
    rotated = [
        _rotated(question, place, shift)
        for question, place in zip(questions, right_at, strict=True)
        for shift in range(1 + len(question.wrong))
    ]
    return Probe(name=name, records=tuple(rotated), options=True)


def _rotated(question: Record, place: int, shift: int) -> Record:
    options = list(question.wrong)
    options.insert(place, question.completion)
    options = options[-shift:] + options[:-shift] if shift else options
    letters = ascii_uppercase[: len(options)]
    lines = [f"{letter}. {text}" for letter, text in zip(letters, options, strict=True)]
    # By place, not by text: two options of a published question may be the same.
    answer = letters[(place + shift) % len(options)]
    text = "\n".join([question.question.strip(), *lines, "Answer with the letter."])
    return replace(
        question,
        id=f"{question.id}/{shift}",
        prompt=(Message("user", text),),
        completion=answer,
        wrong=tuple(letter for letter in letters if letter != answer),
        restated=(),
        key_answers=(),
        subject=question.id,
    )


def choice_scores(outputs: ProbeOutputs, probe: str, *, higher: bool) -> list[Score]:
    """Return accuracy over all orders, in the published order, and in every order at once.

    Args:
        outputs: The outputs of the model.
        probe: A probe made by `lettered`.
        higher: Whether more is better: of what is kept, not of what is forgotten.
    """
    column = outputs.weighed(probe, right)
    by_question: dict[str, list[float]] = {}
    for name, value in column.items():
        by_question.setdefault(name.rpartition("/")[0], []).append(value)
    first: Column = {name: value for name, value in column.items() if name.endswith("/0")}
    mean = {f"{name}/0": sum(each) / len(each) for name, each in by_question.items()}
    every = {f"{name}/0": float(min(each) == 1) for name, each in by_question.items()}
    return [
        outputs.mean("choice-accuracy", probe, mean, higher=higher),
        outputs.mean("choice-first", probe, first, higher=higher),
        outputs.mean("choice-consistent", probe, every, higher=higher),
    ]


def as_question(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of {query, choices, gold} or {question, choices, answer} as ours."""
    if "gold" in fields:
        return {
            "question": fields["query"],
            "choices": fields["choices"],
            "answer": fields["gold"],
        }
    return {key: fields[key] for key in ("question", "choices", "answer")}


def place_of(fields: Mapping[str, object]) -> int:
    """Return the published place of the right option, from 0; 0 where the answer names none."""
    answer = fields.get("gold", fields.get("answer"))
    options = fields.get("choices")
    if isinstance(answer, int):
        return answer
    names = list(options) if isinstance(options, dict | list) else []
    return names.index(answer) if answer in names else 0
