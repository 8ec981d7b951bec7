"""Key spans: where the facts of forget records stand among the tokens of the answer.

Records that name no fact have those that the original can predict and no gold can. These are read
like key answers, so that attacks that ask, and the test whether a fact came back, are computable
without anybody naming the facts.
"""

from collections.abc import Sequence

from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.collect import Collector
from expunge.evidence.store import ORIGINAL, SPANS, EvidenceStore, FoundSpan, Scores, Unit
from expunge.metrics.key_spans import key_spans, noise_threshold, tells, word_numbers
from expunge.metrics.vocabulary import english

MOST = 3
"""Facts of one record: those that the original gains most on."""

_UNSEEN = ("holdout", "control")


def collect_key_spans(collector: Collector, golds: Sequence[str]) -> None:
    """Store where the facts of forget records stand, and find those that nobody named; once.

    Args:
        collector: The evidence, with scores of the original and the golds on its tokens.
        golds: Roles of the golds; those without scores are left out.
    """
    store = collector.store
    if store.holds(SPANS):
        return
    original = _scores(store, ORIGINAL, "forget")
    references = [rows for gold in golds if (rows := _scores(store, gold, "forget"))]
    threshold = noise_threshold(_unseen(store, golds))
    found: list[FoundSpan] = []
    for record in collector.records.get("forget", ()):
        rows = [gold[record.id] for gold in references if record.id in gold]
        if record.key_answers:
            found += _named(collector, record)
        elif record.id in original and rows:
            texts = _token_texts(collector, collector.encoder.encode(record))
            found += _spans(record, texts, original[record.id], rows, threshold)
    if found:
        store.write_key_spans(found)


def _named(collector: Collector, record: Record) -> list[FoundSpan]:
    """Return the place of the key answers in the answer; nothing where it does not hold them."""
    whole, fact = collector.encoder.encode(record), collector.encoder.encode_fact(record)
    if fact == whole:
        return []
    start, stop = fact.start - whole.start, len(fact.ids) - int(fact.ends) - whole.start
    text = collector.encoder.decode(whole.ids[fact.start : whole.start + stop])
    return [FoundSpan(record=record.id, text=text, start=start, stop=stop, gain=0.0)]


def _spans(
    record: Record,
    texts: Sequence[str],
    original: Scores,
    golds: Sequence[Scores],
    threshold: float,
) -> list[FoundSpan]:
    spans = key_spans(
        _content(original),
        [_content(gold) for gold in golds],
        threshold=threshold,
        words=word_numbers(texts),
    )
    rows = [
        FoundSpan(
            record=record.id,
            text="".join(texts[span.start : span.stop]).strip(),
            start=span.start,
            stop=span.stop,
            gain=span.gain,
        )
        for span in spans
    ]
    told = [row for row in rows if tells(row.text, (record.question,), english())]
    best = sorted(told, key=lambda row: -row.gain)[:MOST]
    return sorted(best, key=lambda row: row.start)


def _content(scores: Scores) -> tuple[float, ...]:
    return scores.logp[: scores.content]


def _token_texts(collector: Collector, encoded: Encoded) -> list[str]:
    """Return the text of each scored token but the end token, with the space before it."""
    ids = encoded.ids[encoded.start : len(encoded.ids) - int(encoded.ends)]
    texts: list[str] = []
    before = ""
    for stop in range(1, len(ids) + 1):
        # Decoded together: a letter may be spread over tokens, and single ones lose their space.
        through = collector.encoder.written(ids[:stop])
        texts.append(through[len(before) :])
        before = through
    return texts


def _scores(store: EvidenceStore, role: str, split: str) -> dict[str, Scores]:
    unit = Unit(role=role, split=split, kind="scores")
    return {row.record: row for row in store.scores(unit)} if store.has(unit) else {}


def _unseen(
    store: EvidenceStore, golds: Sequence[str]
) -> list[tuple[Sequence[float], Sequence[Sequence[float]]]]:
    """Return log-probabilities of the original and the golds on records that none of them saw."""
    found: list[tuple[Sequence[float], Sequence[Sequence[float]]]] = []
    for split in _UNSEEN:
        original = _scores(store, ORIGINAL, split)
        references = [_scores(store, gold, split) for gold in golds]
        for name, row in original.items():
            rows = [_content(gold[name]) for gold in references if name in gold]
            if rows:
                found.append((_content(row), rows))
    return found
