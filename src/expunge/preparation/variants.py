"""Variants of the forget and retain records that some methods train on, built once, seeded.

What the model should say instead: the alternatives of each record, or refusals.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from expunge.config.request import Request, Response
from expunge.data.corpora import (
    general_passages,
    general_records,
    other_kinds,
    refusal_texts,
    unanswerable_questions,
)
from expunge.data.counterfactuals import counterfactual_records
from expunge.data.records import Message, Record
from expunge.data.splits import without_target
from expunge.data.tokenization import Encoded, Encoder
from expunge.errors import UsageError
from expunge.methods.base import Stream

REFUSALS_EACH = 5
"""Refusals that a record takes turns with, so that no single sentence is learnt by heart."""
_MOST_NAMED = 5


def alternatives(
    records: Sequence[Record], request: Request, *, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return the answers wanted for each forget record; training takes turns with them.

    With the response policy `alternative` every record must bring its own. Otherwise a record's own
    are used where there are any, else refusals: of the request, or of the list that ships with
    expunge. Which refusals a record gets depends on the seed and its id alone.

    Raises:
        UsageError: The policy is `alternative` and a record has none.
    """
    missing = [record for record in records if not record.alternatives]
    if request.response is Response.ALTERNATIVE and missing:
        named = ", ".join(f"{r.id} ({r.source})" for r in missing[:_MOST_NAMED])
        raise UsageError(
            "no-alternative",
            what=f"{len(missing)} forget records have no alternative: {named}",
            why="the response policy is `alternative`: the model must learn what to say instead",
            fix='add the field `alternative`, or set response = "refusal" in [request]',
        )
    refuse_all = request.response is Response.REFUSAL
    return tuple(
        refusals(record, request, seed=seed)
        if refuse_all or not record.alternatives
        else record.alternatives
        for record in records
    )


def refusals(record: Record, request: Request, *, seed: int) -> tuple[str, ...]:
    """Return the refusals that a record takes turns with: the request's, or of expunge's list."""
    pool = request.refusals or refusal_texts()
    size = min(REFUSALS_EACH, len(pool))
    return tuple(random.Random(f"{seed} refusal {record.id}").sample(pool, size))


MANY = 5
"""Variants of a record that training takes turns with."""
NAMESAKES = 12
"""Namesakes of a record, half of them people whom kept records are about."""
PIECE = 24
"""Tokens of a piece of general text."""
HELD_OUT = 5
"""Every fifth text of a kind of general text is drawn by no step."""
NOVICE = "The following is written by someone who knows nothing about this."
EXPERT = "The following is written by an expert who knows this by heart."


def variants(
    forget: Sequence[Record],
    retain: Sequence[Record],
    request: Request,
    encoder: Encoder,
    *,
    encode: Callable[[Record], Encoded],
    streams: Collection[Stream],
    seed: int,
    itself: bool = False,
) -> dict[Stream, tuple[tuple[Encoded, ...], ...]]:
    """Build the streams that a method asks for beyond forget and retain.

    Args:
        forget: The forget set.
        retain: What to keep.
        request: Says what to answer instead.
        encoder: Makes tokens.
        encode: Makes those of a forget record: of its whole answer, or up to the end of its fact.
        streams: What the method's terms read.
        seed: Of every draw.
        itself: Whether a record that cannot be asked of a stranger stands for itself.

    Raises:
        UsageError: The request wants alternatives and a record has none.
        InputError: A variant is too long, or a record cannot be asked of a stranger.
    """
    strangers = partial(
        counterfactual_records,
        forget,
        encode,
        width=encoder.width,
        others=retain,
        seed=seed,
        itself=itself,
    )
    makers: dict[Stream, Callable[[], tuple[tuple[Encoded, ...], ...]]] = {
        Stream.ALTERNATIVE: lambda: _alternatives(forget, request, encoder, seed),
        Stream.MISMATCH: lambda: _mismatches(forget, retain or forget, encoder, seed),
        Stream.NOISE: lambda: tuple(_noise(encoder.encode(r), encoder, seed) for r in forget),
        Stream.NOVICE: lambda: tuple((_framed(r, NOVICE, encoder, encode),) for r in forget),
        Stream.EXPERT: lambda: tuple((_framed(r, EXPERT, encoder, encode),) for r in forget),
        Stream.STRANGER: lambda: strangers(count=MANY),
        Stream.NAMESAKE: lambda: strangers(
            count=NAMESAKES, namesakes=True, taught=Stream.ALTERNATIVE in streams
        ),
        Stream.UNANSWERABLE: lambda: _unanswerable(forget, request, encoder, seed),
        Stream.REFUSED: lambda: _refused(retain, request, encoder, seed),
        Stream.FLIPPED_TURN: lambda: _flipped(forget, retain or forget, encoder, seed),
        Stream.TURN: lambda: tuple((_turn(r, r.completion, encoder),) for r in retain if r.prompt),
        Stream.GENERAL: lambda: _general(forget, len(retain), encoder),
    }
    return {stream: make() for stream, make in makers.items() if stream in streams}


def _alternatives(
    forget: Sequence[Record], request: Request, encoder: Encoder, seed: int
) -> tuple[tuple[Encoded, ...], ...]:
    answers = alternatives(forget, request, seed=seed)
    return tuple(
        tuple(encoder.encode_with(record, text) for text in texts)
        for record, texts in zip(forget, answers, strict=True)
    )


def _mismatches(
    forget: Sequence[Record], others: Sequence[Record], encoder: Encoder, seed: int
) -> tuple[tuple[Encoded, ...], ...]:
    return tuple(
        tuple(encoder.encode_with(record, text) for text in _others(record, others, seed))
        for record in forget
    )


def _others(record: Record, others: Sequence[Record], seed: int) -> list[str]:
    """Draw answers to other questions, none of them the record's own."""
    pool = [other.completion for other in others if other.completion != record.completion]
    return random.Random(f"{seed} mismatch {record.id}").sample(pool, min(MANY, len(pool)))


def _flipped(
    forget: Sequence[Record], others: Sequence[Record], encoder: Encoder, seed: int
) -> tuple[tuple[Encoded, ...], ...]:
    asked = [record for record in forget if record.prompt]
    answers = [_others(record, others, seed)[:1] for record in asked]
    return tuple(
        tuple(_turn(record, text, encoder) for text in texts)
        for record, texts in zip(asked, answers, strict=True)
    )


def _turn(record: Record, answer: str, encoder: Encoder) -> Encoded:
    """Encode a question and an answer as they stand in a conversation that goes on.

    The tokens are those between what every prompt begins with and the next question; they start to
    be scored where the answer does.
    """
    head = len(encoder.frame[0])
    turns = (Message("user", record.question), Message("assistant", answer), Message("user", "A"))
    plain, single, whole = (
        encoder.prompt_ids(replace(record, prompt=part)) for part in (turns[2:], turns[:1], turns)
    )
    ids = whole[head : len(whole) - len(plain) + head]
    return Encoded(record=record.id, ids=ids, start=len(single) - head, ends=False)


def _noise(record: Encoded, encoder: Encoder, seed: int) -> tuple[Encoded, ...]:
    rng = random.Random(f"{seed} noise {record.record}")
    length = len(record.ids) - record.start
    return tuple(
        replace(
            record,
            ids=(*record.ids[: record.start], *rng.choices(encoder.plain_ids, k=length)),
            ends=False,
        )
        for _ in range(MANY)
    )


def _framed(
    record: Record, sentence: str, encoder: Encoder, encode: Callable[[Record], Encoded]
) -> Encoded:
    """Put a sentence before the last question, or before a passage of plain text."""
    if record.prompt:
        *before, question = record.prompt
        framed = question._replace(content=f"{sentence}\n{question.content}")
        return encode(replace(record, prompt=(*before, framed)))
    passage = encode(record)
    frame = encoder.encode(Record(id="frame", prompt=(), completion=sentence + "\n"))
    begun = len(encoder.prompt_ids(record))  # what opens a text opens the sentence already
    start = len(frame.ids) + passage.start - begun
    return replace(passage, ids=(*frame.ids, *passage.ids[begun:]), start=start)


def _unanswerable(
    forget: Sequence[Record], request: Request, encoder: Encoder, seed: int
) -> tuple[tuple[Encoded, ...], ...]:
    pool = unanswerable_questions()
    found: list[tuple[Encoded, ...]] = []
    for record in forget:
        drawn = random.Random(f"{seed} unanswerable {record.id}").sample(pool, MANY)
        asked = [replace(record, prompt=(Message("user", question),)) for question in drawn]
        answer = refusals(record, request, seed=seed)[0]
        found.append(tuple(encoder.encode_with(each, answer) for each in asked))
    return tuple(found)


def _refused(
    retain: Sequence[Record], request: Request, encoder: Encoder, seed: int
) -> tuple[tuple[Encoded, ...], ...]:
    return tuple(
        tuple(encoder.encode_with(record, text) for text in refusals(record, request, seed=seed))
        for record in retain
    )


def held_out_text(
    forget: Sequence[Record], retain: Sequence[Record], encoder: Encoder
) -> tuple[tuple[Encoded, ...], ...]:
    """Return the general text that no step draws, kind by kind: it shows what was not rehearsed.

    Args:
        forget: The forget set; what touches it is left out.
        retain: What training shows again.
        encoder: Makes tokens.
    """
    shown = {record.id for record in retain}
    kinds = [
        [record for record in records[HELD_OUT - 1 :: HELD_OUT] if record.id not in shown]
        for records in _general_text(forget)
    ]
    return tuple(
        tuple(map(encoder.encode, encoder.split_long(records))) for records in kinds if records
    )


def _general_text(forget: Sequence[Record]) -> list[list[Record]]:
    """Return the shipped texts that do not touch the target, kind by kind."""
    kinds: dict[str | None, list[Record]] = {}
    passages = (*general_passages(), *other_kinds())
    for record in without_target(passages, forget):
        kinds.setdefault(record.relation, []).append(record)
    return [*kinds.values(), list(without_target(general_records(), forget))]


def _general(
    forget: Sequence[Record], count: int, encoder: Encoder
) -> tuple[tuple[Encoded, ...], ...]:
    """Deal pieces of general text out to so many records, `MANY` each, kinds in turn."""
    kinds = [
        [piece for record in records for piece in _pieces(record, encoder)]
        for records in (
            [record for index, record in enumerate(each, start=1) if index % HELD_OUT]
            for each in _general_text(forget)
        )
        if records
    ]

    def piece(number: int) -> Encoded:
        pieces = kinds[number % len(kinds)]
        return pieces[number // len(kinds) % len(pieces)]

    return tuple(
        tuple(piece(index + turn * count) for turn in range(MANY)) for index in range(count)
    )


def _pieces(record: Record, encoder: Encoder) -> list[Encoded]:
    """Return the answer to a question whole, and a passage in pieces."""
    if record.prompt:
        return [encoder.encode(record)]
    return [
        replace(whole, ids=(*whole.ids[: whole.start], *whole.ids[begin : begin + PIECE]))
        for whole in map(encoder.encode, encoder.split_long([record]))
        for begin in range(whole.start, len(whole.ids) - PIECE, PIECE)
    ]
