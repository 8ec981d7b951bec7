"""Elicitation: which facts the model really states, so that only those are asked to be forgotten.

Each question is answered several times at temperature 1, also about a person who does not exist.
The true statement is scored beside false ones of the same kind, for both:

    m = log p(true) - max log p(false)        margin = m(person) - m(person who does not exist)

What these counts mean is said in `expunge.requests.knowledge`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from expunge.data.corpora import common_names
from expunge.data.records import Record, reworded
from expunge.data.tokenization import Encoder
from expunge.models.generation import sample
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.requests.knowledge import ElicitedFact

SAMPLES = 8
_LONGEST = 32
_TOKENS = 4096


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
