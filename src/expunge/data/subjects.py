"""Subjects: whom or what forget records are about, where their file does not say.

A candidate is a window of up to six words of a question, or of an answer, from a capitalised word
to a word with a capital or a digit. It counts for every forget record that has it and against for
every kept one, so what only this request has wins over a title or a noun that all questions share.
Ties go to the longer window. In a text without any capital, the words of a window are names, or
words that are not common.

    score(c) = #{forget records with c} - #{kept records with c}

A record takes its best candidate that two forget records share, or that stands in its question and
in its answer. Without such a candidate it has no subject.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from expunge.data.corpora import common_names, common_words
from expunge.data.records import Record

_WORD = re.compile(r"[^\W_]+(?:[-\u2019'.][^\W_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s$")
_BETWEEN = re.compile(r"[^\w.!?:;,\"“”()]*")
"""What may stand between two words of a name."""
_OPENING = re.compile(r"(?:^|[.!?:\n][\"“”']?)\s*$")
"""What stands before the first word of a sentence."""
_LONGEST = 6


def with_subjects(forget: Sequence[Record], kept: Iterable[Record]) -> tuple[Record, ...]:
    """Return the forget records with a `subject` each, where one can be told from their text.

    Args:
        forget: The records to forget; a subject that a file names stays.
        kept: Records that stay: what they speak of as well is nobody's name.
    """
    if all(record.subject for record in forget):
        return tuple(forget)
    names = {word for record in forget for text in _texts(record) for word in _capitals(text)}
    own = [
        (_candidates(record.question, names), _candidates(record.completion, names))
        for record in forget
    ]
    among = Counter(run for asked, said in own for run in asked | said)
    against = Counter(
        run
        for record in kept
        for run in set[str]().union(*(_candidates(text, names) for text in _texts(record)))
        if run in among
    )
    score = {run: count - against[run] for run, count in among.items()}
    return tuple(
        record if record.subject else replace(record, subject=_best(asked, said, score, among))
        for record, (asked, said) in zip(forget, own, strict=True)
    )


def _best(
    asked: set[str], said: set[str], score: dict[str, int], among: Counter[str]
) -> str | None:
    named = [
        run for run in asked | said if score[run] > 0 and (among[run] > 1 or run in asked & said)
    ]
    best = max(named, key=lambda run: (score[run], len(run), run), default=None)
    if best is None:
        return None
    # A last name may stand alone more often than the whole name does.
    whole = [run for run in named if f" {best} " in f" {run} " and 2 * score[run] >= score[best]]
    return max(whole, key=lambda run: (len(run), run))


def _texts(record: Record) -> tuple[str, str]:
    return record.question, record.completion


def _candidates(text: str, names: set[str]) -> set[str]:
    """Return the windows of a text that may be a name.

    Args:
        text: A question or an answer.
        names: Words that have a capital elsewhere than at the opening of a sentence.
    """
    words = list(_WORD.finditer(text))
    small = not any(map(str.isupper, text))
    found: set[str] = set()
    for first, begin in enumerate(words):
        if not (
            small or (begin.group()[0].isupper() and _POSSESSIVE.sub("", begin.group()) in names)
        ):
            continue
        for last in range(first, min(first + _LONGEST, len(words))):
            end = words[last]
            if last > first and not _BETWEEN.fullmatch(text, words[last - 1].end(), end.start()):
                break
            name = _POSSESSIVE.sub("", end.group())
            if small and (name in _common_words() or not name[0].isalpha()):
                break
            if small or any(char.isupper() or char.isdigit() for char in name):
                found.add(text[begin.start() : end.start()] + name)
            if name != end.group():
                break
    return found


@cache
def _common_words() -> frozenset[str]:
    """Return the common words that are no names, in small letters."""
    names = {name.lower() for each in common_names() for name in each}
    return frozenset(common_words()) - names


def _capitals(text: str) -> set[str]:
    """Return the words that have a capital and do not open a sentence."""
    return {
        _POSSESSIVE.sub("", word.group())
        for word in _WORD.finditer(text)
        if word.group()[0].isupper() and not _OPENING.search(text[: word.start()])
    }
