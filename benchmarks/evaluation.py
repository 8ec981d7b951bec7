"""The rows of evaluation: likelihood metrics in one pass, and greedy answers."""

import argparse
from collections.abc import Callable
from itertools import takewhile
from typing import Any, TypeVar

import torch

import peer
from expunge.data.tokenization import Encoded
from expunge.evidence.store import Scores
from expunge.metrics.memorization import exact_memorisation, extraction_strength, probability
from expunge.models.generation import greedy
from expunge.models.scoring import TokenScores, score
from expunge.utils.system import keep_freed_memory
from sides import PAD, TOKENS_PER_PASS
from testbed import Bench
from timing import Clock
from turns import Side

T = TypeVar("T")

SCORED = 32
ANSWERED = 128
BATCH = 16
"""Records in a batch of the peer."""
NEW_TOKENS = 200


def evaluation(given: argparse.Namespace, name: str) -> dict[str, object]:
    """Time one row on both sides."""
    return metrics(given) if name == "metrics" else answers(given, begun=name == "known answers")


def metrics(given: argparse.Namespace) -> dict[str, object]:
    """Seven likelihood metrics: a pass each, or one pass that feeds all."""
    seconds, found = _both(measuring, given)
    pairs = zip(found["peer"], found["expunge"], strict=True)
    far = max(abs(a - b) / max(1, abs(a)) for x, y in pairs for a, b in zip(x, y, strict=True))
    return {
        "ratio": seconds["peer"] / seconds["expunge"],
        "seconds": seconds,
        "records": SCORED,
        "difference": f"{far:.0e}",
    }


def measuring(given: argparse.Namespace, side: str) -> Callable[[], Any]:
    """Build one side of the metrics; what it returns gives seconds and values."""
    bench = Bench(given)
    records = bench.streams.forget[:SCORED]
    if side == "peer":
        common = bench.peer("full-s0")

        def work() -> list[list[float]]:
            return peer.metric_passes(common, records, pad_id=PAD, batch=BATCH)
    else:
        keep_freed_memory()  # as the command line does
        network = bench.load("full-s0").network

        def work() -> list[list[float]]:
            scores = score(network, records, pad_id=PAD, tokens_per_pass=TOKENS_PER_PASS)
            return seven(records, scores)

    return _timed(bench, work)


def seven(records: tuple[Encoded, ...], scores: list[TokenScores]) -> list[list[float]]:
    """Return the seven metrics of `peer.metric_passes` from one pass."""
    rows = [
        Scores(
            record=record.record,
            logp=tuple(each.logp.tolist()),
            hit=tuple(each.hit.tolist()),
            z=tuple(each.z.tolist()),
            ends=False,
            zlib=0,
        )
        for record, each in zip(records, scores, strict=True)
    ]
    means = [-float(each.logp.mean()) for each in scores]
    totals = [-float(each.logp.sum()) for each in scores]
    return [
        [probability(row) or 0.0 for row in rows],
        [exact_memorisation(row) or 0.0 for row in rows],
        [extraction_strength(row) or 0.0 for row in rows],
        means,
        totals,
        [_lowest(each.logp) for each in scores],
        [_lowest(each.z) for each in scores],
    ]


def answers(given: argparse.Namespace, *, begun: bool) -> dict[str, object]:
    """Greedy answers of a model that knows them, from nothing or from the teacher-forced pass."""
    seconds, found = _both(answering, given, begun)
    same = sum(a == b for a, b in zip(found["peer"], found["expunge"], strict=True))
    return {
        "ratio": seconds["peer"] / seconds["expunge"],
        "seconds": seconds,
        "records": ANSWERED,
        "difference": f"{ANSWERED - same} of {ANSWERED} answers",
    }


def answering(given: argparse.Namespace, side: str, begun: bool) -> Callable[[], Any]:
    """Build one side of the answers; what it returns gives seconds and answers."""
    bench = Bench(given)
    records = bench.streams.forget[:ANSWERED]
    prompts = [record.ids[: record.start] for record in records]
    if side == "peer":
        common, tokenizer = bench.peer("full-s0"), bench.load("full-s0").tokenizer

        def work() -> list[tuple[int, ...]]:
            return peer.generated(
                common, tokenizer, prompts, batch=BATCH, max_new_tokens=NEW_TOKENS
            )
    else:
        keep_freed_memory()  # as the command line does
        network, ends = bench.load("full-s0").network, bench.encoder.end_ids

        def work() -> list[tuple[int, ...]]:
            known = [() for _ in records]
            if begun:
                scores = score(network, records, pad_id=PAD, tokens_per_pass=TOKENS_PER_PASS)
                known = [_known(*pair) for pair in zip(records, scores, strict=True)]
            whole = [record.ids[record.start :] for record in records]
            going = [i for i, answer in enumerate(whole) if known[i] != answer]
            new = greedy(
                network,
                [prompts[i] + known[i] for i in going],
                end_ids=ends,
                max_new_tokens=NEW_TOKENS,
                tokens_per_pass=TOKENS_PER_PASS,
            )
            texts = {i: known[i] + rest for i, rest in zip(going, new, strict=True)}
            closed = {i: known[i][:-1] for i in range(len(records)) if i not in texts}
            return [(texts | closed)[i][:NEW_TOKENS] for i in range(len(records))]

    return _timed(bench, work)


def _timed(bench: Bench, work: Callable[[], T]) -> Callable[[], tuple[float, T]]:
    clock = Clock(bench.device)

    def timed() -> tuple[float, T]:
        found: list[T] = []

        def once() -> float:
            found.append(work())
            return 0.0

        return clock.seconds(once, []), found[0]

    return timed


def _both(
    make: Callable[..., Callable[[], Any]], given: argparse.Namespace, *more: object
) -> tuple[dict[str, float], dict[str, Any]]:
    """Ask one side after the other; return seconds and what was found, by side."""
    asked: dict[str, tuple[float, Any]] = {}
    for name in ("expunge", "peer"):
        with Side(make, given, name, *more) as side:
            asked[name] = side()
    return {n: s for n, (s, _) in asked.items()}, {n: found for n, (_, found) in asked.items()}


def _known(record: Encoded, scores: TokenScores) -> tuple[int, ...]:
    hits = list(takewhile(bool, scores.hit.tolist()))
    return record.ids[record.start : record.start + len(hits)]


def _lowest(values: torch.Tensor) -> float:
    return float(values.sort().values[: max(1, int(0.2 * len(values)))].mean())
