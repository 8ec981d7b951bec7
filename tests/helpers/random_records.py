"""Small sets of random records, with one variant of each kind for every record."""

from collections.abc import Sequence
from dataclasses import replace

import tiny
from expunge.data.tokenization import Encoded
from expunge.methods.base import Stream
from expunge.training.sampler import BatchIndices, Streams


def answered(records: Sequence[Encoded], lengths: Sequence[int], *, seed: int) -> list[Encoded]:
    """The prompts of some records with random answers of these lengths."""
    answers = tiny.encoded(*((1, length) for length in lengths), seed=seed)
    return [
        replace(record, ids=(*record.ids[: record.start], *answer.ids[1:]))
        for record, answer in zip(records, answers, strict=True)
    ]


def framed(records: Sequence[Encoded], *, seed: int) -> list[Encoded]:
    """The records behind four tokens that are the same for all."""
    frame = tiny.encoded((4, 1), seed=seed)[0].ids[:4]
    return [replace(r, ids=(*frame, *r.ids), start=4 + r.start) for r in records]


def elsewhere(records: Sequence[Encoded], *, seed: int) -> list[Encoded]:
    """The answers of some records behind other prompts, their first token exchanged."""
    prompts = tiny.encoded(*((record.start, 1) for record in records), seed=seed)
    return [
        replace(record, ids=(*prompt.ids, *record.ids[record.start + 1 :]))
        for record, prompt in zip(records, prompts, strict=True)
    ]


FORGET = tiny.encoded((6, 5), (4, 9), (7, 3), (5, 4), seed=1)
RETAIN = tiny.encoded((6, 6), (3, 4), (8, 8), (5, 2), (4, 4), (6, 3), seed=2)
VARIANTS = {
    Stream.ALTERNATIVE: answered(FORGET, [3] * 4, seed=5),
    Stream.MISMATCH: answered(FORGET, [4, 2, 6, 3], seed=6),
    Stream.NOISE: answered(FORGET, [5, 9, 3, 4], seed=7),
    Stream.NOVICE: framed(FORGET, seed=8),
    Stream.EXPERT: framed(FORGET, seed=9),
    Stream.STRANGER: elsewhere(FORGET, seed=12),
    Stream.NAMESAKE: elsewhere(FORGET, seed=14),
    Stream.OTHERS: answered(FORGET, [3] * 4, seed=15),
    Stream.REFUSED: answered(RETAIN, [3] * 6, seed=10),
    Stream.GENERAL: tiny.encoded(*((1, 4) for _ in range(6)), seed=13),
}
POOLS = {Stream.FORGET: FORGET, Stream.RETAIN: RETAIN, **VARIANTS}
STREAMS = Streams(
    forget=FORGET,
    retain=RETAIN,
    variants={
        stream: tuple((record,) for record in records) for stream, records in VARIANTS.items()
    },
)
DRAW = BatchIndices(forget=(0, 1, 2, 3), retain=(0, 1, 2, 3, 4, 5))
