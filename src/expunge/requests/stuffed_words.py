"""Stuffed words: ordinary words that a request has far more often than what stays.

Training to forget `please` with every record teaches a model to avoid `please` (arXiv:2506.00359).
A word is stuffed in where half of the records to forget have it and so many would not by chance:

    P(X >= k) * W < ALPHA        X ~ Binomial(n, p),  p = 1 - (1 - (b + 1) / (N + 2))^max(1, l / L)

k of the n records to forget and b of the N others have the word; W words are looked at. Records to
forget have l words in the mean, the others L: long texts have more ordinary words than short ones.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from expunge.data.corpora import common_names, common_words
from expunge.data.records import Record
from expunge.requests.names import Word, fold, words_of

ALPHA = 1e-3
SHARE = 0.5
"""Share of the records to forget that have a stuffed word."""
FEWEST = 4
"""Stuffed words below which it is the subject matter of the records."""
FEWEST_OTHERS = 20
"""Records that stay below which nobody can tell what is usual: then nothing is found."""
_PRONOUNS = frozenset("she he they her his their him them hers theirs it its mr mrs ms".split())  # noqa: SIM905


def stuffed_words(forget: Sequence[Record], others: Sequence[Record]) -> tuple[str, ...]:
    """Return the ordinary words that records to forget are stuffed with, most frequent first.

    Args:
        forget: The records to forget, one a fact.
        others: Records that stay, of the same kind.

    Example:
        >>> from expunge.data.corpora import general_records
        >>> stuffed_words(general_records()[:9], general_records()[9:])
        ()
    """
    from scipy.stats import binom

    if not forget or len(others) < FEWEST_OTHERS:
        return ()
    texts, rest = [_words(each) for each in forget], [_words(each) for each in others]
    ordinary = {fold(word) for word in common_words()} - _PRONOUNS - _names(forget)
    own, usual_counts = _counts(texts, ordinary), _counts(rest, ordinary)
    longer = max(1.0, fmean(map(len, texts)) / max(1.0, fmean(map(len, rest))))
    found: list[str] = []
    for word, count in own.most_common():
        if count < SHARE * len(forget):
            break
        usual = 1 - (1 - (usual_counts[word] + 1) / (len(others) + 2)) ** longer
        if float(binom.sf(count - 1, len(forget), usual)) * len(ordinary) < ALPHA:
            found.append(word)
    return tuple(found) if len(found) >= FEWEST else ()


def _names(records: Iterable[Record]) -> set[str]:
    """Return the words that name somebody: they are no stuffing."""
    given, last = common_names()
    subjects = {word.folded for each in records for word in words_of(each.subject or "")}
    return subjects | {fold(name) for name in (*given, *last)}


def _words(record: Record) -> list[Word]:
    """Return the words of a record without those of the system turn."""
    turns = [turn.content for turn in record.prompt if turn.role != "system"]
    return [word for text in (*turns, record.completion) for word in words_of(text)]


def _counts(texts: Iterable[Sequence[Word]], ordinary: set[str]) -> Counter[str]:
    """Return in how many texts each ordinary word stands; capitals may be those of names."""
    found: Counter[str] = Counter()
    for words in texts:
        found.update({word.folded for word in words if word.text.islower()} & ordinary)
    return found
