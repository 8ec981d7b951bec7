"""What an attack is: a frozen dataclass of its budget, with one function that returns attempts.

An attempt is what one attack got out of one model about one fact, raw; `knowledge` reads it.
Attacks that ask one question a record are forms of the question (`evidence.collect`) as well: the
audit asks in these itself, together with the plain questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from expunge.data.records import Record
from expunge.evidence.context import AttackMeta, Family
from expunge.evidence.store import Answer, Item
from expunge.metrics.fact_leak import leaks_fact
from expunge.metrics.fact_matchers import Background
from expunge.metrics.rouge import rouge_l_recall
from expunge.utils.io import sha256_json

if TYPE_CHECKING:
    from expunge.attacks.target import Target  # loads torch, which reading attempts does not need

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


FAMILIES: Mapping[Family, str] = {
    "asking": "the question in other words, other roles, other languages, or begun for the model",
    "sampling": "many answers instead of one, and the probability of extraction",
    "prompts": "prompts found by gradients",
    "weights": "fine-tuning, mixing, pruning and changing the weights",
    "compression": "the weights held at fewer bits",
    "inside": "what the states between the layers still say",
}


class Attack(Protocol):
    """One attack with its budget. Implementations are frozen dataclasses."""

    meta: ClassVar[AttackMeta]
    """What it takes and how it is counted."""

    @property
    def name(self) -> str:
        """Name in the table, in evidence and on the ladder."""
        ...

    def run(
        self, target: "Target", used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Attack the model and return what came out; the model is unchanged afterwards.

        Args:
            target: The model, and what the attacker has at hand.
            used: Facts that the attack may learn from; empty unless it `learns`.
            tested: Facts that it is after.

        Raises:
            Unmet: The attack cannot be made on this model or these facts.
        """
        ...


class Unmet(Exception):  # noqa: N818 - a missing need is an answer, not a failure
    """The model or the facts lack what the attack works on: it does not apply. The text says what
    is missing: `not computable: TEXT`."""


class Unavailable(Unmet):
    """A tool, a model or memory is not at hand: the attack applies, and was not run."""


def made_with(attack: Attack, *, seed: int) -> str:
    """Return the digest of an attack's budget and choices and the seed, as evidence is marked with.

    It is that of the attack's `repr`, so fields without one are not part of it.
    """
    return made_as(repr(attack), seed=seed)


def made_as(text: str, *, seed: int) -> str:
    """Return what `made_with` returns of an attack, from its `repr`: no attack is imported."""
    return sha256_json({"attack": text, "seed": seed})[:16]
