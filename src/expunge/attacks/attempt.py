"""An attempt: what one attack got out of one model about one fact, raw, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from expunge.evidence.store import Answer, Item
from expunge.metrics.fact_leak import leaks_fact
from expunge.metrics.fact_matchers import Background
from expunge.metrics.rouge import rouge_l_recall

Observable = Literal["key-fact", "rouge-l-recall"]
"""How much of a fact an answer holds: whether it is stated, or, where no record of a request names
its fact, which share of the reference answer's words comes back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One answer, choice or measurement about one fact. Personal data: it stays in evidence."""

    record: str
    variant: str = ""
    """Which of the attack's settings or wordings: a template, a learning rate with a step."""
    told: str = ""
    """All text that the attack showed to the model."""
    given: str = ""
    """What it put into the model's mouth."""
    text: str = ""
    """What the model added."""
    wanted: tuple[str, ...] = ()
    """Spellings that count as the fact, where they are not the record's own key answers."""
    choices: tuple[float, ...] = ()
    """Log-probabilities of the offered answers, nats per token; the first is the true one."""
    value: float | None = None
    """A measurement in [0, 1], 1 = known."""


def knowledge(attempt: Attempt, item: Item, observable: Observable) -> float | None:
    """Return how much of the fact the attempt brought out, in [0, 1].

    A measurement counts as it is, a choice is 1 when the true answer is the likeliest. An answer is
    1 when it gives the fact away, wholly or in part (`leaks_fact`), or, by `rouge-l-recall`, the
    share that it holds of the reference answer, or of what is left of it where the attack began it.

    Returns:
        None when the record names no fact, or the attack itself shows it: then saying it proves
        nothing.
    """
    if attempt.value is not None:
        return attempt.value
    if attempt.choices:
        return float(attempt.choices[0] > max(attempt.choices[1:]))
    if observable == "rouge-l-recall" and not attempt.wanted:
        # What the attack said itself is no part of what could come back.
        rest = item.answer.removeprefix(attempt.given)
        answer = Answer(record=attempt.record, text=attempt.text)
        return rouge_l_recall(answer, replace(item, answer=rest))
    named = replace(item, question=attempt.told, key_answers=attempt.wanted or item.key_answers)
    answer = Answer(record=attempt.record, text=attempt.text, given=attempt.given)
    return leaks_fact(answer, named, Background())


def observable_of(items: Sequence[Item]) -> Observable:
    """Return what is counted: stated facts, if any record that is to be forgotten names its own.

    Args:
        items: Facts, and perhaps control items, which have no say.
    """
    facts = (item for item in items if item.split == "forget")
    return "key-fact" if any(item.key_answers for item in facts) else "rouge-l-recall"
