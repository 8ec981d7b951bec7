"""Elicitation: which facts the model really states, so that only those are asked to be forgotten.

Each question is answered several times at temperature 1, also about a person who does not exist.
The true statement is scored beside false ones of the same kind, for both:

    m = log p(true) - max log p(false)        margin = m(person) - m(person who does not exist)

    known      at least half of the answers state the fact
    partly     some do, or the margin is `MARGIN` nats or more
    guessed    the model says the same of people who do not exist
    unknown    none of this
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from expunge.data.corpora import common_names
from expunge.data.records import Record, reworded
from expunge.data.tokenization import Encoder
from expunge.models.generation import sample
from expunge.models.scoring import score
from expunge.models.transformer import Network

SAMPLES = 8
MARGIN = 3.0
"""Nats by which the margin must exceed that of strangers where the fact is never said."""
_LONGEST = 32
_TOKENS = 4096


class Knowledge(StrEnum):
    """What a model states of a fact."""

    KNOWN = "known"
    PARTLY = "partly"
    GUESSED = "guessed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class ElicitedFact:
    """What a model said when it was asked for one fact."""

    record: str
    """The record's id."""
    stated: int
    """Answers that state it."""
    answers: int
    of_strangers: int
    """Answers about people who do not exist that state it."""
    margin: float | None
    """How much likelier the true statement is than every false one, beyond what the model finds
    of people who do not exist; nats. None without false statements or without such people."""

    @property
    def knowledge(self) -> Knowledge:
        """What this says of the model."""
        if self.of_strangers * 2 >= max(1, self.stated) and self.of_strangers:
            return Knowledge.GUESSED
        if 2 * self.stated >= self.answers:
            return Knowledge.KNOWN
        sure = self.margin is not None and self.margin >= MARGIN
        return Knowledge.PARTLY if self.stated or sure else Knowledge.UNKNOWN

    def sentence(self) -> str:
        """Say it for the review page."""
        text = f"{self.knowledge.value}: {self.stated} of {self.answers} answers state it"
        if self.of_strangers:
            text += f"; so do {self.of_strangers} about people who do not exist"
        if self.margin is not None:
            text += f"; margin beyond strangers {self.margin:+.1f} nats"
        return text


def elicited(
    network: Network,
    encoder: Encoder,
    records: Sequence[Record],
    *,
    states: Callable[[str, Record], bool],
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, ElicitedFact]:
    """Ask a model for facts and return what it said of each, by the record's id.

    Args:
        network: The model, in evaluation mode.
        encoder: Of its tokenizer.
        records: Questions with key answers.
        states: Tells whether a text states the fact of a record.
        samples: Answers to each question.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    strangers = [_of_stranger(record, seed) for record in records]
    prompts = [encoder.prompt_ids(record) for record in (*records, *strangers)]
    answers = sample(
        network,
        prompts,
        samples=samples,
        temperature=1.0,
        generator=generator,
        end_ids=encoder.end_ids,
        max_new_tokens=_LONGEST,
        tokens_per_pass=_TOKENS,
    )
    counts = [
        sum(states(encoder.decode(ids), record) for ids in drawn)
        for record, drawn in zip((*records, *records), answers, strict=True)
    ]
    own_margins = _margins(network, encoder, records)
    base = _margins(network, encoder, strangers)
    own, others = counts[: len(records)], counts[len(records) :]
    return {
        record.id: ElicitedFact(
            record=record.id,
            stated=own[place],
            answers=samples,
            of_strangers=others[place] if strangers[place] != record else 0,
            margin=_beyond(own_margins[place], base[place], asked=strangers[place] != record),
        )
        for place, record in enumerate(records)
    }


def _of_stranger(record: Record, seed: int) -> Record:
    """Return the question as it would be asked of somebody who does not exist."""
    if not record.subject or record.subject not in record.question:
        return record
    given, last = common_names()
    rng = random.Random(f"{seed} {record.id}")
    name = f"{rng.choice(given)} {rng.choice(last)}"
    subject = record.subject

    def renamed(text: str) -> str:
        return text.replace(subject, name)

    return replace(
        record,
        prompt=reworded(record.prompt, renamed),
        completion=renamed(record.completion),
        wrong=tuple(renamed(text) for text in record.wrong),
    )


def _beyond(own: float | None, base: float | None, *, asked: bool) -> float | None:
    return round(own - base, 2) if asked and own is not None and base is not None else None


def _margins(network: Network, encoder: Encoder, records: Sequence[Record]) -> list[float | None]:
    """Return by how many nats each true statement is likelier than the best false one."""
    texts = [(record, text) for record in records for text in (record.completion, *record.wrong)]
    scores = score(
        network,
        [encoder.encode_with(record, text) for record, text in texts],
        pad_id=encoder.pad_id,
        tokens_per_pass=_TOKENS,
        with_z=False,
    )
    sums = iter([float(each.logp.sum()) for each in scores])
    found: list[float | None] = []
    for record in records:
        true, *false = [next(sums) for _ in (record.completion, *record.wrong)]
        found.append(true - max(false) if false else None)
    return found
