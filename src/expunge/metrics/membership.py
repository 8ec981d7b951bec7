"""Membership scores: how familiar a text looks to a model; higher = more likely a member.

Each takes log-probabilities as models gave them and returns one number per record. Directions
differ between published codes; here there is one. A score is None where a need is missing.

Tests over such scores follow: their tail, whole sets, and whether the comparison is fair.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from expunge.evidence.store import Scores
from expunge.metrics.fluency import bounded_loss
from expunge.metrics.key_facts import normalise
from expunge.metrics.memorization import mean_log_probability
from expunge.metrics.statistics import clopper_pearson


def lowest_mean(values: tuple[float, ...], share: float) -> float | None:
    """Return the mean of the lowest `share` of values, one at least; None without a value.

    Example:
        >>> lowest_mean((-1.0, -3.0, -5.0), 0.7)
        -4.0
    """
    if not values:
        return None
    count = max(1, int(share * len(values)))
    return math.fsum(sorted(values)[:count]) / count


def loss(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, in nats (LOSS attack, arXiv 1709.01604).

    Example:
        >>> loss(Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9))
        -2.0
    """
    return mean_log_probability(scores)


def bounded(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, that of each token at most 3 nats.

    Example:
        >>> bounded(Scores(record="r1", logp=(-1.0, -9.0), hit=(), z=(), ends=False, zlib=9))
        -2.0
    """
    total = bounded_loss(scores)
    return None if total is None else -total / scores.content


FLOOR = 0.2
"""Nats per token below which losses are alike."""


def log_loss(scores: Scores) -> float | None:
    """Return -log(mean loss per content token + 0.2), the loss on a scale of even noise.

    Models that never saw a record differ on it in proportion to its loss: by 0.1 nats where it is
    1, by 0.3 where it is 3. On this scale the noise is the same for easy and hard records, and a
    record that was learnt lies far outside it even where it was easy.

    Example:
        >>> scores = Scores(record="r1", logp=(-0.8,), hit=(), z=(), ends=False, zlib=9)
        >>> abs(log_loss(scores)) < 1e-9
        True
    """
    mean = mean_log_probability(scores)
    return None if mean is None else -math.log(FLOOR - mean)


def zlib(scores: Scores) -> float | None:
    """Return minus the mean loss divided by the zlib size of the text in bytes.

    Calibrates for how repetitive the text is (arXiv 2012.07805). None without content tokens or
    without a size.

    Example:
        >>> zlib(Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=8))
        -0.25
    """
    mean = mean_log_probability(scores)
    return None if mean is None or scores.zlib <= 0 else mean / scores.zlib


def min_k(scores: Scores, share: float = 0.4) -> float | None:
    """Return the mean log-probability of the least likely `share` of content tokens.

    `max(1, int(share * T))` tokens; share 1 equals `loss` (Min-K%, arXiv 2310.16789).

    Example:
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0, -5.0), hit=(), z=(), ends=False, zlib=9)
        >>> min_k(scores, share=0.7)
        -4.0
    """
    return lowest_mean(scores.logp[: max(scores.content, 0)], share)


def min_k_plus(scores: Scores, share: float = 0.2) -> float | None:
    """Return the mean of the lowest `share` of z-scores of content tokens.

    z is (log p - mean) / sd over the vocabulary under the model (Min-K%++, arXiv 2404.02936).

    Example:
        >>> z = (0.5, -2.0)
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=z, ends=False, zlib=9)
        >>> min_k_plus(scores, share=0.5)
        -2.0
    """
    return lowest_mean(scores.z[: max(scores.content, 0)], share)


CAP = 0.01
"""Largest contribution of one token to `dc_pdd`, as in its paper's main setting."""


def reference(own: float, other: float) -> float:
    """Return l_ref - l = mean log p - mean log p_ref, nats (arXiv 2012.07805).

    What a model finds likely that another one, never trained on the text, does not. The reference
    must not be the model that difficulty was matched on: there it is 0 by construction.

    Args:
        own: Mean log-probability per token under the judged model.
        other: The same under the reference model.

    Example:
        >>> reference(own=-1.0, other=-3.0)
        2.0
    """
    return own - other


def lowercase(own: float, lowered: float) -> float:
    """Return l(lowercased) - l, nats: what the exact spelling is worth (arXiv 2012.07805).

    Args:
        own: Mean log-probability per token of the text.
        lowered: The same of the text in lower case.

    Example:
        >>> lowercase(own=-1.0, lowered=-1.5)
        0.5
    """
    return own - lowered


def neighbourhood(own: float, neighbours: Sequence[float]) -> float | None:
    """Return mean_j l(neighbour_j) - l, nats (arXiv 2305.18462); None without a neighbour.

    Args:
        own: Mean log-probability per token of the text.
        neighbours: The same of texts that differ from it in a few words.

    Example:
        >>> neighbourhood(-1.0, [-2.0, -3.0])
        1.5
    """
    return own - math.fsum(neighbours) / len(neighbours) if neighbours else None


def gradient(norm: float) -> float:
    """Return minus the norm of the gradient of the mean loss: members lie nearer to a minimum.

    The *global* norm over all weights, in evaluation mode; common code averages the norms of single
    tensors with dropout switched on (arXiv 2402.17012, trap E5). One forward and backward pass.

    Example:
        >>> gradient(2.0)
        -2.0
    """
    return -norm


def recall(own: float, prefixed: float) -> float | None:
    """Return LL(x | non-member prefix) / LL(x) (arXiv 2406.15968); None when LL(x) is 0.

    Both log-likelihoods are negative. A prefix of texts that were never trained on costs a member
    more of its likelihood than it costs a non-member, so the ratio is larger for members. The
    choice of the prefix matters.

    Args:
        own: Mean log-probability per token of the text.
        prefixed: The same after the prefix.

    Example:
        >>> recall(own=-1.0, prefixed=-1.5)
        1.5
    """
    return prefixed / own if own < 0 else None


def dc_pdd(
    logp: Sequence[float], rarity: Sequence[float | None], *, cap: float = CAP
) -> float | None:
    """Return the mean of min(p_t * -log q_t, cap) over first occurrences (arXiv 2409.14781).

    A text is suspicious when the model is sure of tokens that are rare in general. The paper caps
    at 0.01 for long texts.

    Args:
        logp: Log-probability of each token, nats.
        rarity: -log frequency of the token in a reference corpus; None at repeated occurrences.
        cap: Largest contribution of one token.

    Returns:
        None without a first occurrence.

    Raises:
        ValueError: The sides differ in length.

    Example:
        >>> dc_pdd([-0.01, -9.0], [8.0, None], cap=0.01)
        0.01
    """
    parts = [
        min(math.exp(value) * rare, cap)
        for value, rare in zip(logp, rarity, strict=True)
        if rare is not None
    ]
    return math.fsum(parts) / len(parts) if parts else None


def rarities(tokens: Sequence[int], counts: dict[int, int], *, vocabulary: int) -> list[float]:
    """Return -log((count + 1) / (total + vocabulary)) of each token, nats: Laplace-smoothed.

    Args:
        tokens: Token ids of one text.
        counts: How often each id occurs in the reference corpus.
        vocabulary: Number of ids that the tokenizer knows.

    Example:
        >>> [round(value, 3) for value in rarities([0, 1], {0: 3}, vocabulary=5)]
        [0.693, 2.079]
    """
    total = math.log(sum(counts.values()) + vocabulary)
    return [total - math.log(counts.get(token, 0) + 1) for token in tokens]


def first_occurrences(tokens: Sequence[int]) -> list[bool]:
    """Tell for each token whether it is the first of its kind in the text.

    Example:
        >>> first_occurrences([7, 8, 7])
        [True, True, False]
    """
    seen: set[int] = set()
    found = [token not in seen and not seen.add(token) for token in tokens]
    return [bool(each) for each in found]


Array = NDArray[np.float64]

RATES = ((0.01, 1000), (0.05, 100), (0.10, 20))
"""False-positive rates and the fewest non-members from which each can be measured."""


def measurable_rate(others: int) -> float | None:
    """Return the lowest false-positive rate that this many non-members can measure.

    1 % needs 1000, 5 % needs 100, 10 % needs 20; None below that.

    Example:
        >>> measurable_rate(100), measurable_rate(10)
        (0.05, None)
    """
    return next((rate for rate, needed in RATES if others >= needed), None)


def tpr_at_fpr(members: Sequence[float], others: Sequence[float], rate: float) -> float:
    """Return the share of members above a threshold that at most `rate` of the others exceed.

    It shows how many members the attack is *sure* of: an AUC near one half can hide a few records
    that are recognised beyond doubt (arXiv 2112.03570).

    The threshold is one of the others' own scores, so the false-positive rate is never above
    `rate`. Chance is `rate` itself. Higher = more exposed.

    Raises:
        ValueError: One side is empty or the rate is not in (0, 1).

    Example:
        >>> tpr_at_fpr([4.0, 2.0], [1.0, 2.0, 3.0], rate=0.1)
        0.5
    """
    if not len(members) or not len(others) or not 0 < rate < 1:
        raise ValueError("a true-positive rate needs scores on both sides and a rate in (0, 1)")
    ordered = np.sort(np.asarray(others, float))[::-1]
    threshold = ordered[min(int(rate * len(ordered) + 1e-9), len(ordered) - 1)]
    return float((np.asarray(members, float) > threshold).mean())


def empirical_epsilon(
    caught: int, members: int, false: int, others: int, *, delta: float = 0.0, exact: bool = True
) -> float:
    """Return a lower bound of the privacy loss that an attack shows, nats, at least 0.

    max(ln((TPR - delta) / FPR), ln((1 - FPR - delta) / FNR)). A certificate that promises less is
    refuted (arXiv 2101.04535).

    Args:
        caught: Members that the attack names.
        members: All members.
        false: Others that the attack names.
        others: All others.
        delta: The delta of the certificate.
        exact: Whether rates are replaced by their one-sided 95 % Clopper-Pearson bounds, as a claim
            needs; without, point estimates.

    Raises:
        ValueError: A side is empty.

    Example:
        >>> round(empirical_epsilon(40, 80, 10, 80, exact=False), 3)
        1.386
    """
    if members < 1 or others < 1:
        raise ValueError("a privacy loss needs members and others")
    tpr, fpr = caught / members, false / others
    if exact:
        tpr, fpr = clopper_pearson(caught, members)[0], clopper_pearson(false, others)[1]
    return max(0.0, _log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr))


def _log_ratio(above: float, below: float) -> float:
    if above <= 0:
        return -math.inf
    return math.inf if below <= 0 else math.log(above / below)


FEWEST = 8
"""Records of each side below which half of them tell nothing."""

RIDGE = 1.0
"""Penalty of the regression on standardised scores: membership scores are nearly collinear."""


def dataset_inference(suspects: Array, unseen: Array, *, seed: int) -> float | None:
    """Return the p-value of "the suspects are no more familiar than the unseen"; small = members.

    Half of the records teaches a linear regression which scores tell suspects from a set that was
    certainly not seen. On the other half a one-sided t-test asks whether suspects score higher
    (arXiv 2406.06443). Single records stay anonymous: the claim is about the set. Without members
    the p-value is uniform.

    Args:
        suspects: Membership scores, (records, scores); higher = more likely a member.
        unseen: The same of records that the model cannot have seen.
        seed: Seed of the split into halves.

    Returns:
        None with fewer than eight records on a side.

    Raises:
        ValueError: The sides have different numbers of scores.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> suspects, unseen = rng.normal(2, 1, (40, 1)), rng.normal(0, 1, (40, 1))
        >>> dataset_inference(suspects, unseen, seed=0) < 0.001
        True
    """
    if suspects.shape[1] != unseen.shape[1]:
        raise ValueError("both sides must have the same scores")
    if min(len(suspects), len(unseen)) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    (learn_s, test_s), (learn_u, test_u) = _halves(suspects, rng), _halves(unseen, rng)
    weights = _regression(learn_s, learn_u)
    from scipy.stats import ttest_ind

    first, second = test_s @ weights, test_u @ weights
    found = cast("Any", ttest_ind(first, second, equal_var=False, alternative="greater"))
    # Scores without any spread carry no evidence either way.
    return 1.0 if np.isnan(found.pvalue) else float(found.pvalue)


def _halves(rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    order = rng.permutation(len(rows))
    middle = len(rows) // 2
    return rows[order[:middle]], rows[order[middle:]]


def _regression(members: Array, others: Array) -> Array:
    """Return weights on raw scores, (scores,); outliers beyond 2.5 SD are clipped for the fit."""
    rows = np.concatenate([members, others])
    mean, sd = rows.mean(axis=0), rows.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    standard = np.clip((rows - mean) / sd, -2.5, 2.5)
    target = np.concatenate([np.full(len(members), 0.5), np.full(len(others), -0.5)])
    target = target - target.mean()
    gram = standard.T @ standard + RIDGE * np.eye(rows.shape[1])
    return np.linalg.solve(gram, standard.T @ target) / sd


CALIPER = 0.05
"""Largest difference in mean log-probability of a matched pair, nats per token."""

CHANCE = (0.45, 0.55)
"""Where an AUC must lie that cannot know the answer."""

FOLDS = 5

ENOUGH = 59
"""Records from which on noise alone does not leave `CHANCE`."""


class BagOfWordsScores(NamedTuple):
    """Out-of-fold scores of the bag of words; higher = worded like a member.

    Example:
        >>> BagOfWordsScores(members=np.array([0.4]), others=np.array([-0.4])).members.shape
        (1,)
    """

    members: Array
    others: Array


def word_scores(
    members: Sequence[str],
    others: Sequence[str],
    *,
    member_groups: Sequence[str],
    other_groups: Sequence[str],
    seed: int,
) -> BagOfWordsScores | None:
    """Return log P(text | members) - log P(text | others) per word, by naive Bayes.

    A membership AUC means something only when members and others differ in nothing else. A bag of
    words sees topic and style only, so it must fail to tell them apart (arXiv 2406.17975).
    Partition one corpus: a holdout that was written later is different text.

    Multinomial, Laplace smoothing, equal priors; each text is scored by counts of the other folds.
    Groups (subjects) stay whole: else the name of a person in one fold gives away all others.

    Args:
        members: Texts of the forget set.
        others: Texts of the comparison set.
        member_groups: Group of each member text.
        other_groups: Group of each other text.
        seed: Seed of the folds.

    Returns:
        None when a side has fewer groups than two: then nothing is left to learn from.

    Example:
        >>> red, blue, groups = ["red cat", "red dog"], ["blue cat", "blue dog"], ["a", "b"]
        >>> found = word_scores(red, blue, member_groups=groups, other_groups=groups, seed=0)
        >>> bool(found.members.min() > found.others.max())
        True
    """
    parts = [
        _folds(groups, seed=seed + side)
        for side, groups in enumerate((member_groups, other_groups))
    ]
    if any(len(set(part)) < 2 for part in parts):
        return None
    bags = [[Counter(normalise(text).split()) for text in side] for side in (members, others)]
    size = len({word for side in bags for bag in side for word in bag}) + 1
    whole = [_counts(side) for side in bags]
    held = [_by_fold(side, part) for side, part in zip(bags, parts, strict=True)]
    found = [
        np.array(
            [
                _score(bag, fold, whole=whole, held=held, size=size)
                for bag, fold in zip(side, part, strict=True)
            ]
        )
        for side, part in zip(bags, parts, strict=True)
    ]
    return BagOfWordsScores(*found)


def comparable(value: float, low: float, high: float, *, n: int) -> bool:
    """Tell whether an AUC that cannot know the answer is at chance.

    Its 95 % interval holds 0.5 and, from `ENOUGH` records on, it lies within 0.45-0.55; with fewer,
    sampling noise alone leaves that range.

    Example:
        >>> comparable(0.52, 0.46, 0.58, n=100), comparable(0.60, 0.49, 0.70, n=100)
        (True, False)
    """
    near = n < ENOUGH or CHANCE[0] <= value <= CHANCE[1]
    return low <= 0.5 <= high and near


def matched(members: Sequence[float], others: Sequence[float]) -> list[tuple[int, int]]:
    """Return index pairs of equal difficulty, as many as there can be.

    A pair lies within `CALIPER` on the loss of a model that was trained on neither side.

    Args:
        members: Mean log-probability of each member under a never-trained model, nats per token.
        others: The same of the others.

    Example:
        >>> matched([-1.0, -5.0], [-1.04, -3.0])
        [(0, 0)]
    """
    left, right = np.argsort(np.asarray(members)), np.argsort(np.asarray(others))
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        gap = members[left[i]] - others[right[j]]
        if abs(gap) <= CALIPER:
            pairs.append((int(left[i]), int(right[j])))
            i, j = i + 1, j + 1
        elif gap < 0:
            i += 1
        else:
            j += 1
    return pairs


def _folds(groups: Sequence[str], *, seed: int) -> list[int]:
    """Deal whole groups to folds, the largest first, each to the emptiest fold."""
    sizes = Counter(groups)
    names = sorted(sizes)
    np.random.default_rng(seed).shuffle(names)
    load, place = [0] * FOLDS, dict[str, int]()
    for name in sorted(names, key=lambda each: -sizes[each]):
        place[name] = load.index(min(load))
        load[place[name]] += sizes[name]
    return [place[name] for name in groups]


def _counts(bags: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    return total


def _by_fold(bags: Sequence[Counter[str]], folds: Sequence[int]) -> dict[int, Counter[str]]:
    return {
        fold: _counts([bag for bag, own in zip(bags, folds, strict=True) if own == fold])
        for fold in set(folds)
    }


def _score(
    bag: Counter[str],
    fold: int,
    *,
    whole: Sequence[Counter[str]],
    held: Sequence[dict[int, Counter[str]]],
    size: int,
) -> float:
    """Mean over words of log P(word | members) - log P(word | others), without the own fold."""
    sums: list[float] = []
    for every, folds in zip(whole, held, strict=True):
        out = folds.get(fold, Counter())
        total = every.total() - out.total() + size
        sums.append(
            sum(n * np.log((every[word] - out[word] + 1) / total) for word, n in bag.items())
        )
    return float(sums[0] - sums[1]) / max(1, bag.total())
