"""BM25: how many rare words two texts share (Okapi BM25; Robertson and Zaragoza, 2009).

    s(q, d) = sum over words w of q   idf(w) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|))
    idf(w)  = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

f is how often d has w, n(w) how many of the N texts have it, |d| the words of d. A score has no
unit and is not negative. Each word of the query counts once.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.data.splits import normalise

K1 = 1.5
B = 0.75


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
