"""How alike records are: by the words that they share, or by the model's own states.

BM25 (Okapi; Robertson and Zaragoza, 2009), a score without a unit that is not negative:

    s(q, d) = sum over words w of q   idf(w) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))
    idf(w)  = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

f is how often d has w, n(w) how many of the N texts have it, |d| the words of d. Each word of the
query counts once.

Embeddings, without a download:

    e_i = mean over tokens of h_t(middle block) - mean over all records of the same
    s(q, d) = <e_q, e_d> / (|e_q| |e_d|)

h are the states after the middle block. The mean over records is what all prompts share.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.splits import normalise
from expunge.data.tokenization import Encoded
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Network, Site

K1 = 1.5
B = 0.75
TOKENS = 2048
"""Padded tokens of one pass of the model."""


def bm25(queries: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the score of each text for each query, [queries, texts].

    Example:
        >>> bm25(["Lin's cat"], ["Lin has a cat.", "A dog sleeps."]).argmax()
        np.int64(0)
    """
    counts = [Counter(normalise(text).split()) for text in texts]
    lengths = [sum(each.values()) for each in counts]
    mean = sum(lengths) / max(1, len(lengths)) or 1.0
    postings: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        for word, times in count.items():
            weight = times * (K1 + 1) / (times + K1 * (1 - B + B * length / mean))
            postings[word].append((place, weight))
    scores = np.zeros((len(queries), len(texts)), dtype=np.float32)
    for row, query in enumerate(queries):
        for word in {*normalise(query).split()} & postings.keys():
            having = len(postings[word])
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            for place, weight in postings[word]:
                scores[row, place] += idf * weight
    return scores


@torch.no_grad()
def embeddings(
    network: Network, records: Sequence[Encoded], *, pad_id: int, done: Callable[[int], None]
) -> Tensor:
    """Return centred embeddings, [records, d] float32.

    Args:
        network: The model.
        records: At least one.
        pad_id: Any token id.
        done: Called with the number of records that were finished.
    """
    site = Site(len(network.layers) // 2)
    found: dict[int, Tensor] = {}
    for group in by_length([len(record.ids) for record in records], tokens=TOKENS):
        batch = collate([records[i] for i in group], pad_id=pad_id, device=network.device)
        states = network.observe(batch.ids, sites=[site], final=False).states[site]
        for row, index in enumerate(group):
            found[index] = states[row, : len(records[index].ids)].float().mean(0).cpu()
        done(len(group))
    stacked = torch.stack([found[index] for index in range(len(records))])
    return stacked - stacked.mean(0)


def cosines(queries: Tensor, records: Tensor) -> Tensor:
    """Return the cosine of each pair, [m, ...] and [n, ...] -> [m, n]."""
    sides = [torch.nn.functional.normalize(side.flatten(1), dim=1) for side in (queries, records)]
    return sides[0] @ sides[1].T
