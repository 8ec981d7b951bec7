"""Find records that two sets share: nothing can be both forgotten and kept."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from expunge.data.record import Record

_GRAM = 8
_LONG = 24
_CONTAINED = 0.8
_WORD = re.compile(r"\w+")
_EMPTY_WORDS = frozenset(
    ["a", "an", "the", "is", "are", "was", "were", "do", "does", "did", "of", "in", "please"]
)


class Pair(NamedTuple):
    """Two records that say the same."""

    forget: Record
    other: Record


def normalise(text: str) -> str:
    """Return the words of a text: NFKC, casefolded, without punctuation, one space between."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def overlaps(forget: Sequence[Record], others: Iterable[Record]) -> list[Pair]:
    """Pair each of `others` with the first record of `forget` that says the same.

    Two records say the same in one of two cases, all text being normalised.

    - Same question and same answer. A question may be one of the paraphrases. The same answer is
      the same text or the same set of key answers. Words without content (`a`, `the`, `is`, `of`
      and a few more) are left out, all others count, in their order: questions made from one
      template about two persons differ in the name and are never taken for one.
    - A long text, of 24 words or more, is for the greater part in the other: of the distinct runs
      of 8 words of the shorter completion at least 80 % occur in the longer, and the records do not
      name different subjects. One changed word takes out 8 runs.

    Reworded questions without a word in common are not found, nor are copies of text that is
    written without spaces between words, unless they are exact.
    """
    exact: dict[tuple[str, object], Record] = {}
    for record in forget:
        for key in _keys(record):
            exact.setdefault(key, record)
    grams: defaultdict[str, list[int]] = defaultdict(list)
    sizes: list[int] = []
    for index, record in enumerate(forget):
        own = _grams(record)
        sizes.append(len(own))
        for gram in own:
            grams[gram].append(index)
    pairs: list[Pair] = []
    for other in others:
        found = next((exact[key] for key in _keys(other) if key in exact), None)
        if found is None:
            found = _containing(other, forget, grams, sizes)
        if found is not None:
            pairs.append(Pair(found, other))
    return pairs


def mentions(record: Record, names: Iterable[str]) -> bool:
    """Tell whether a record's text contains one of `names` (normalised, as whole words)."""
    text = " ".join([*(turn.content for turn in record.prompt), record.completion])
    padded = f" {normalise(text)} "
    return any(f" {name} " in padded for name in names)


def _keys(record: Record) -> Iterator[tuple[str, object]]:
    answers: list[object] = [_content(record.completion)]
    if record.prompt:  # "Oslo" says what a longer answer says whose key is "Oslo"
        keys = record.key_answers or (record.completion,)
        answers.append(frozenset(_content(answer) for answer in keys))
    for question in dict.fromkeys((record.question, *record.paraphrases)):
        content = _content(question)
        yield from ((content, answer) for answer in answers)


def _content(text: str) -> str:
    """Normalised words without the empty ones; all words where nothing else would be left."""
    words = normalise(text).split()
    return " ".join([word for word in words if word not in _EMPTY_WORDS] or words) or text.strip()


def _grams(record: Record) -> frozenset[str]:
    words = normalise(record.completion).split()
    if len(words) < _LONG:
        return frozenset()
    return frozenset(" ".join(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1))


def _containing(
    other: Record,
    forget: Sequence[Record],
    grams: dict[str, list[int]],
    sizes: Sequence[int],
) -> Record | None:
    own = _grams(other)
    shared = Counter(index for gram in own for index in grams.get(gram, ()))
    for index, count in sorted(shared.items()):
        candidate = forget[index]
        subjects = {candidate.subject, other.subject} - {None}
        if count >= _CONTAINED * min(len(own), sizes[index]) and len(subjects) < 2:
            return candidate
    return None
