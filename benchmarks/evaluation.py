"""The rows of evaluation: likelihood metrics in one pass, and greedy answers."""

from itertools import takewhile
from typing import Protocol

import peer
import torch
from sides import PAD, TOKENS_PER_PASS
from timing import Clock
from transformers import PreTrainedModel

from expunge.audit.evidence import Scores
from expunge.audit.metrics.exact_memorisation import exact_memorisation
from expunge.audit.metrics.extraction_strength import extraction_strength
from expunge.audit.metrics.probability import probability
from expunge.data.encode import Encoded, Encoder
from expunge.engine.streams import Streams
from expunge.model.generate import greedy
from expunge.model.load import Loaded
from expunge.model.score import TokenScores, score

SCORED = 32
ANSWERED = 128
BATCH = 16
"""Records in a batch of the peer."""
NEW_TOKENS = 200


class Models(Protocol):
    """Where models and records come from."""

    device: torch.device
    encoder: Encoder
    streams: Streams

    def load(self, adapter: str | None = None) -> Loaded:
        """Load the base, or a model of the testbed."""
        ...

    def peer(self, adapter: str | None = None) -> PreTrainedModel:
        """Load it without what expunge makes faster in a model."""
        ...


def evaluation(bench: Models, name: str) -> dict[str, object]:
    """Time one row on both sides."""
    return metrics(bench) if name == "metrics" else answers(bench, begun=name == "known answers")


def metrics(bench: Models) -> dict[str, object]:
    """Seven likelihood metrics: a pass each, or one pass that feeds all."""
    loaded, clock = bench.load("full-s0"), Clock(bench.device)
    common = bench.peer("full-s0")
    records = bench.streams.forget[:SCORED]
    found: dict[str, list[list[float]]] = {}

    def theirs() -> float:
        found["peer"] = peer.metric_passes(common, records, pad_id=PAD, batch=BATCH)
        return 0.0

    def ours() -> float:
        scores = score(loaded.network, records, pad_id=PAD, tokens_per_pass=TOKENS_PER_PASS)
        found["expunge"] = seven(records, scores)
        return 0.0

    seconds = {"expunge": clock.seconds(ours, []), "peer": clock.seconds(theirs, [])}
    pairs = zip(found["peer"], found["expunge"], strict=True)
    far = max(abs(a - b) / max(1, abs(a)) for x, y in pairs for a, b in zip(x, y, strict=True))
    return {
        "ratio": seconds["peer"] / seconds["expunge"],
        "seconds": seconds,
        "records": len(records),
        "difference": f"{far:.0e}",
    }


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


def answers(bench: Models, *, begun: bool) -> dict[str, object]:
    """Greedy answers of a model that knows them, from nothing or from the teacher-forced pass."""
    loaded, clock = bench.load("full-s0"), Clock(bench.device)
    common = bench.peer("full-s0")
    records = bench.streams.forget[:ANSWERED]
    prompts = [record.ids[: record.start] for record in records]
    ends = bench.encoder.end_ids
    found: dict[str, list[tuple[int, ...]]] = {}

    def theirs() -> float:
        found["peer"] = peer.generated(
            common,
            loaded.tokenizer,
            prompts,
            batch=BATCH,
            max_new_tokens=NEW_TOKENS,
        )
        return 0.0

    def ours() -> float:
        known = [() for _ in records]
        if begun:
            scores = score(loaded.network, records, pad_id=PAD, tokens_per_pass=TOKENS_PER_PASS)
            known = [_known(*pair) for pair in zip(records, scores, strict=True)]
        going = [i for i, record in enumerate(records) if known[i] != record.ids[record.start :]]
        new = greedy(
            loaded.network,
            [prompts[i] + known[i] for i in going],
            end_ids=ends,
            max_new_tokens=NEW_TOKENS,
            tokens_per_pass=TOKENS_PER_PASS,
        )
        texts = {i: known[i] + rest for i, rest in zip(going, new, strict=True)}
        closed = {i: known[i][:-1] for i in range(len(records)) if i not in texts}
        found["expunge"] = [(texts | closed)[i][:NEW_TOKENS] for i in range(len(records))]
        return 0.0

    seconds = {"expunge": clock.seconds(ours, []), "peer": clock.seconds(theirs, [])}
    same = sum(a == b for a, b in zip(found["peer"], found["expunge"], strict=True))
    return {
        "ratio": seconds["peer"] / seconds["expunge"],
        "seconds": seconds,
        "records": len(records),
        "difference": f"{len(records) - same} of {len(records)} answers",
    }


def _known(record: Encoded, scores: TokenScores) -> tuple[int, ...]:
    hits = list(takewhile(bool, scores.hit.tolist()))
    return record.ids[record.start : record.start + len(hits)]


def _lowest(values: torch.Tensor) -> float:
    return float(values.sort().values[: max(1, int(0.2 * len(values)))].mean())
