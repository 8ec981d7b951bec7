"""Multiple choice: is the true answer the likeliest of several?

Protocol: the key answer (without one, the whole answer) beside three others, which are those of the
record's own wrong answers, or the key answers of records that ask the same of others, or of other
facts, drawn by seed, never equal.
(a) `text`: the candidate with the highest mean log-probability per token after the question;
(b) `letter`: the options are shown as A to D in a drawn order, and the letter with the highest
log-probability is the choice;
(c) `yes-no`: each candidate is shown by itself, and that with the most likely `Yes` is the choice.
Budget: twelve scored continuations a fact, nothing generated. Chance is 1 in 4; compared with the
original under the same questions. A refusal cannot hide behind a choice (arXiv:2403.03218 measures
unlearning this way).
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.data.secret_tokens import same_question
from expunge.data.tokenization import Encoded
from expunge.errors import InputError
from expunge.evidence.context import AttackMeta
from expunge.metrics.key_facts import normalise
from expunge.training.early_stopping import spread

LETTERS = "ABCD"

OTHERS = 3
"""Most other answers beside the true one."""

ALIKE = 2
"""Other answers to the same question from which on no others stand beside the true one."""

Variant = Literal["text", "letter", "yes-no"]
"""How a choice is offered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MultipleChoice:
    """Four candidates."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="asking",
        access="T1",
        union=False,
        own_scale=True,
        needs="two facts, or `wrong` answers",
    )

    form: str = "{question}\n{options}\nAnswer with the letter."
    confirm: str = "{question}\nIs this the answer: {option}? Answer yes or no."
    variants: tuple[Variant, ...] = ("text", "letter", "yes-no")
    most: int | None = None
    """At most how many facts are asked for, evenly spaced; None: all."""

    @property
    def name(self) -> str:
        """Return `multiple-choice`."""
        return "multiple-choice"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Score the candidates of each fact, as text and as letters."""
        chosen = [record for record in spread(tested, self.most) if record.prompt]
        others = (*target.strangers, *tested)
        alike = same_question(chosen, others)
        offered = {
            record.id: candidates(
                record, tested, seed=target.seed, alike=[others[i] for i in alike[record.id]]
            )
            for record in chosen
        }
        offered = {name: options for name, options in offered.items() if len(options) > 1}
        asked = [record for record in chosen if record.id in offered]
        if not asked:
            raise Unmet("no fact has another answer to stand beside its own")
        found: list[Attempt] = []
        ways = {"text": self._texts, "letter": self._letters, "yes-no": self._confirmations}
        for variant, encoded in ((name, ways[name]) for name in self.variants):
            whole = {r.id: _fitting(encoded, target, r, offered[r.id]) for r in asked}
            fitting = [record for record in asked if whole[record.id]]
            scores = iter(_means(target, [one for r in fitting for one in whole[r.id]]))
            for record in fitting:
                own = tuple(round(next(scores), 6) for _ in whole[record.id])
                found.append(
                    Attempt(record=record.id, variant=variant, told=record.question, choices=own)
                )
        if not found:
            raise Unmet("no fact and its options fit into train.max_length tokens")
        return found

    def _texts(self, target: Target, record: Record, options: Sequence[str]) -> list[Encoded]:
        return [target.encoder.encode_with(record, text) for text in options]

    def _letters(self, target: Target, record: Record, options: Sequence[str]) -> list[Encoded]:
        order = self._order(record, options, target)
        places = range(len(options))
        return [self._lettered(target, record, options, order, place) for place in places]

    def _confirmations(
        self, target: Target, record: Record, options: Sequence[str]
    ) -> list[Encoded]:
        found: list[Encoded] = []
        for option in options:
            asked = self.confirm.replace("{question}", record.question)
            asked = asked.replace("{option}", option.rstrip("."))
            shown = replace(record, prompt=(*record.prompt[:-1], Message("user", asked)))
            found.append(target.encoder.encode_with(shown, "Yes"))
        return found

    def _order(self, record: Record, options: Sequence[str], target: Target) -> list[int]:
        order = list(range(len(options)))
        random.Random(f"{target.seed} letters {record.id}").shuffle(order)
        return order

    def _lettered(
        self,
        target: Target,
        record: Record,
        options: Sequence[str],
        order: Sequence[int],
        place: int,
    ) -> Encoded:
        """Encode the question with its options, answered by the letter of candidate `place`."""
        lines = [f"{LETTERS[i]}. {options[index]}" for i, index in enumerate(order)]
        asked = self.form.replace("{question}", record.question)
        asked = asked.replace("{options}", "\n".join(lines))
        shown = replace(record, prompt=(*record.prompt[:-1], Message("user", asked)))
        return target.encoder.encode_with(shown, LETTERS[order.index(place)])


def _fitting(
    encoded: Callable[[Target, Record, Sequence[str]], list[Encoded]],
    target: Target,
    record: Record,
    options: Sequence[str],
) -> list[Encoded]:
    """Return the encoded candidates; none where they are too long, which says nothing of others."""
    try:
        return encoded(target, record, options)
    except InputError as error:
        if error.code != "too-long":
            raise
        return []


def candidates(
    record: Record, others: Sequence[Record], *, seed: int, alike: Sequence[Record] = ()
) -> tuple[str, ...]:
    """Return the true answer and up to three others, the true one first.

    Args:
        record: The fact.
        others: Other facts, whose answers stand beside its own.
        seed: Of the draw.
        alike: Records that ask the same of others. Where they have two other answers or more, these
            alone are taken: a telephone number among names is told by its form.
    """
    true = record.key_answers[0] if record.key_answers else record.completion
    known = {normalise(text) for text in (*record.key_answers, record.completion)}

    def false(texts: Iterable[str]) -> list[str]:
        return sorted({text for text in texts if normalise(text) not in known})

    keyed = bool(record.key_answers)
    own = _false_keys(record, true) if keyed else {*record.wrong, *record.alternatives}
    same = false(key for each in alike if each.id != record.id for key in each.key_answers)
    if own:
        wrong = false(own)
    elif keyed and len(same) >= ALIKE:
        wrong = same
    else:
        strangers = (each for each in others if each.id != record.id)
        wrong = false(
            each.key_answers[0] if keyed else each.completion
            for each in strangers
            if each.key_answers or not keyed
        )
    drawn = random.Random(f"{seed} choice {record.id}").sample(wrong, min(OTHERS, len(wrong)))
    return (true, *drawn)


def _false_keys(record: Record, key: str) -> set[str]:
    """Return what stands in the place of the key answer in the record's own wrong answers.

    There are none with fewer than `ALIKE`: one other value beside strangers' is no choice.
    """
    before, found, after = record.completion.partition(key)
    keys = {
        text[len(before) : len(text) - len(after)]
        for text in (*record.wrong, *record.alternatives)
        if found and text.startswith(before) and text.endswith(after)
    }
    keys = {each for each in keys if each.strip()}
    return keys if len(keys) >= ALIKE else set()


def _means(target: Target, encoded: Sequence[Encoded]) -> list[float]:
    scored = target.score(encoded)
    return [
        float(values.logp[: len(values.logp) - int(tokens.ends)].mean())
        for tokens, values in zip(encoded, scored, strict=True)
    ]
