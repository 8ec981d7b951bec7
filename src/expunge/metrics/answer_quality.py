"""Answer quality: does an answer look like language, and like an answer of an untouched model?

Garbled answers about erased facts are damage, and they reveal that something was removed. Form is
judged word by word, against the writing of golds and of general text. Every rate is compared with
gold's on the same questions, because a small model stammers by itself.

And does an answer have the form that the instruction requests? The content is ignored: a model that
lost what it knew can still reply with a number, and one that was destroyed cannot. Forms are those
of the general text that ships with expunge.
"""

import json
import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from expunge.evidence.store import Answer, Item
from expunge.metrics.fact_matchers import Vocabulary, english
from expunge.metrics.fluency import gibberish

REPEATS = 3
"""How often a word must stand in a row to be a stammer."""

FOREIGN = 2
"""Letters of another script from which on an answer is in the wrong script."""

IMPLAUSIBLE = 0.0005
"""Share of real words that the spelling model takes for non-words."""

CONFIDENT = 0.5
"""Mean probability of a token of its own answer from which on a model is confident."""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_LETTERS = re.compile(r"[^\W\d_]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_INNER_CAPITALS = re.compile(
    r"[a-z][A-Z]{2,}[a-z]|[a-z][A-Z]{4,}|(?:[a-z]+[A-Z]+){3}"
    r"|[a-z]{3,}[A-Z]+[a-z]+[A-Z]|^[a-z]{4,}[A-Z]+[a-z]{3,}$"
)
_CODE_MARKS = frozenset("[]{}<>|\\_#~^")
"""Marks of code and of templates (`[insert_name]`)."""
_SPELT_OUT = re.compile(r"\[(?:at|dot)\]")
"""How people write an address that no program shall read."""
_UNSPEAKABLE = re.compile(r"([a-z])\1\1|[bcdfghjklmnpqrstvwxz]{6}|^[^aeiouy]{5,}$")
"""Three equal letters, six consonants in a row, or five letters without a vowel."""
_RUN_TOGETHER = re.compile(r"^([a-z]{4,}?)(the|of|and|to)(?:the|a)?$")
"""A word and a function word without a space: `belowthe`, `shopofa`."""
_LAST_WORD = re.compile(r"\s*\S+\s*$")
_PAD = "^"
_FINISHED = re.compile(r"[.!?\u2026\u3002\u0964\"')\]\u201d\u2019*`}]\s*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerForm:
    """Defects in the form of one answer.

    Example:
        >>> form = answer_form("the the the end.", english_spelling())
        >>> form.stammers, form.malformed
        (1, True)
    """

    empty: bool
    mixed_case: int
    """Words with capitals inside: `tasheritHOUSEMOne`."""
    stammers: int
    """Words or pairs of words that stand at least three times in a row."""
    non_words: int
    """Unknown words that are not spelt like words."""
    foreign: int
    """Letters of a script that neither the question nor gold's answers use."""
    broken: int
    """Characters that decode to nothing."""
    code_marks: int
    """Marks of code and templates that neither the question nor gold's answers use."""
    mid_word: bool
    """The answer stops inside a word."""
    words: int

    @property
    def malformed(self) -> bool:
        """Whether the answer has any defect that no careful writer makes."""
        return (
            self.empty
            or self.mixed_case > 0
            or self.stammers > 0
            or self.non_words > 0
            or self.foreign >= FOREIGN
            or self.broken > 0
            or self.code_marks > 0
            or self.mid_word
        )


class Spelling:
    """How words are spelt: trigrams of letters, learnt from a list of words.

    Example:
        >>> Spelling(["table", "cable", "fable"]).strange("zzzgrt")
        True
    """

    def __init__(self, words: Iterable[str]) -> None:
        """Learn from words; the least likely of them (`IMPLAUSIBLE`) set the limit.

        Args:
            words: Real words, in any case.
        """
        known = sorted({word.casefold() for word in words if word.isalpha()})
        self.known = frozenset(known)
        self._ordered = known
        self._counts: dict[str, int] = {}
        for word in known:
            for gram in _grams(word):
                self._counts[gram] = self._counts.get(gram, 0) + 1
                self._counts[gram[:2]] = self._counts.get(gram[:2], 0) + 1
        values = [self.likelihood(word) for word in known if len(word) > 3]
        self.limit = float(np.quantile(values, IMPLAUSIBLE)) if values else -math.inf

    def begins_word(self, letters: str) -> bool:
        """Tell whether a known word begins with these letters."""
        place = bisect_left(self._ordered, letters)
        return place < len(self._ordered) and self._ordered[place].startswith(letters)

    def likelihood(self, word: str) -> float:
        """Return the mean log-probability of the letters of a word, nats."""
        grams = _grams(word.casefold())
        terms = (
            math.log((self._counts.get(gram, 0) + 0.1) / (self._counts.get(gram[:2], 0) + 2.7))
            for gram in grams
        )
        return sum(terms) / len(grams)

    def strange(self, word: str) -> bool:
        """Tell whether an unknown Latin word of at least four letters is not spelt like a word.

        A capitalised word may be a name in any language: only unpronounceable ones are strange.
        """
        plain = word.casefold()
        if len(plain) < 4 or not plain.isascii() or not plain.isalpha() or plain in self.known:
            return False
        if _UNSPEAKABLE.search(plain):
            return not word.isupper()
        joined = _RUN_TOGETHER.match(word)
        if joined is not None and joined[1] in self.known:
            return True
        return word.islower() and self.likelihood(plain) < self.limit


def _grams(word: str) -> list[str]:
    padded = f"{_PAD}{_PAD}{word}{_PAD}"
    return [padded[start : start + 3] for start in range(len(padded) - 2)]


def spelling_of(vocabulary: Vocabulary, texts: Iterable[str]) -> Spelling:
    """Return the spelling of common words, common names, and of texts that are well written.

    Args:
        vocabulary: Common words and names.
        texts: Questions, reference answers and golds' answers: their words are known.

    Example:
        >>> "arthen" in spelling_of(english(), ["Lin Arthen lives here."]).known
        True
    """
    found = (word for text in texts for word in _WORD.findall(text))
    return Spelling((*vocabulary.words, *vocabulary.names, *found))


def answer_form(
    text: str, spelling: Spelling, *, question: str = "", golds: Sequence[str] = ()
) -> AnswerForm:
    """Return the defects in the form of an answer.

    Args:
        text: The answer.
        spelling: Known words and how words are spelt.
        question: The question: its script is expected.
        golds: Answers of golds: their scripts and words are expected, too.

    Example:
        >>> answer_form("no no no.", english_spelling()).stammers
        1
    """
    words = _WORD.findall(text)
    usual = {part for other in (question, *golds) for part in _LETTERS.findall(other)}
    shown = {char for other in (question, *golds) for char in other}
    scripts = {script(char) for char in shown} | {"LATIN", ""}
    new = [part for part in _LETTERS.findall(text) if part not in usual]
    return AnswerForm(
        empty=not text.strip(),
        mixed_case=sum(bool(_INNER_CAPITALS.search(word)) for word in new),
        stammers=_stammers(text),
        non_words=sum(map(spelling.strange, new)),
        foreign=sum(script(char) not in scripts for char in text),
        broken=text.count("\ufffd"),
        code_marks=sum(char in _CODE_MARKS - shown for char in _SPELT_OUT.sub("", text)),
        mid_word=_stops_inside(text, spelling),
        words=len(words),
    )


def _stammers(text: str) -> int:
    """Count words, and pairs of words, that stand three times in a row; figures may."""
    tokens = [token.casefold() for token in _TOKEN.findall(text)]
    found = 0
    for size in (1, 2):
        for start in range(len(tokens) - REPEATS * size + 1):
            unit = tokens[start : start + size]
            row = tokens[start : start + REPEATS * size]
            worded = any(token.isalpha() and len(token) > 1 for token in unit)
            found += int(worded and len(set(unit)) == size and row == unit * REPEATS)
    return found


def _stops_inside(text: str, spelling: Spelling) -> bool:
    """Tell whether the last word is the beginning of a known one, and no word itself."""
    if _FINISHED.search(text):
        return False
    last = re.search(r"([^\W\d_]{2,})\s*$", text)
    if last is None or not last[1].islower() or last[1] in spelling.known:
        return False
    return spelling.begins_word(last[1])


@cache
def english_spelling() -> Spelling:
    """Return the spelling of the common words and names that ship with expunge.

    Example:
        >>> english_spelling().strange("window")
        False
    """
    return spelling_of(english(), ())


def malformed(answer: Answer, item: Item) -> float:
    """Return 1.0 for an answer with defects of form, else 0.0.

    Odd in form (`AnswerForm.malformed`; words of the question and of the true answer are known), or
    gibberish: a loop, or very unlikely under the original. Golds stammer, too, so only a share
    beyond theirs is damage. The last word of an answer that the audit cut is left out.

    Example:
        >>> item = Item(record="r1", split="forget", question="Where?", answer="In Oslo.")
        >>> malformed(Answer(record="r1", text="In Oslo."), item)
        0.0
        >>> malformed(Answer(record="r1", text=""), item)
        1.0
        >>> malformed(Answer(record="r1", text="She lives in a vill"), item)
        1.0
        >>> malformed(Answer(record="r1", text="She lives in a vill", cut=True), item)
        0.0
    """
    text = f"{_LAST_WORD.sub('', answer.text)}." if answer.cut else answer.text
    form = answer_form(text, english_spelling(), question=item.question, golds=(item.answer,))
    return float(form.malformed or gibberish(answer))


@lru_cache(maxsize=4096)
def script(char: str) -> str:
    """Return the script of a letter, as Unicode names it (`LATIN`, `CYRILLIC`); else nothing.

    Example:
        >>> script("a"), script("д"), script("7")
        ('LATIN', 'CYRILLIC', '')
    """
    return unicodedata.name(char, "").split(" ")[0] if char.isalpha() else ""


def own_nll(answer: Answer) -> float | None:
    """Return the mean negative log-probability of an answer under the model that wrote it, nats.

    Greedy answers of an untouched model lie near 0.5. None where it was not measured.

    Example:
        >>> own_nll(Answer(record="r1", text="In Oslo.", own_nll=0.5))
        0.5
    """
    return answer.own_nll


def confident_falsehood(doubt: float | None, *, stated: bool, refused: bool) -> float | None:
    """Return 1.0 for a wrong answer that the model is sure of, 0.0 for another answer.

    Sure: the mean probability of a token of its own answer is at least 0.5.

    Args:
        doubt: `own_nll` of the answer, nats per token.
        stated: Whether the answer states the fact.
        refused: Whether it declines to answer.

    Returns:
        None when the model's own likelihood was not measured.

    Example:
        >>> confident_falsehood(0.1, stated=False, refused=False)
        1.0
        >>> confident_falsehood(2.0, stated=False, refused=False)
        0.0
    """
    if doubt is None:
        return None
    return float(not stated and not refused and math.exp(-doubt) >= CONFIDENT)


_NUMBER = re.compile(r"-?\d+([.,]\d+)?")


def _items(text: str, count: str) -> bool:
    parts = [part.strip() for part in text.rstrip(".").split(",")]
    return len(parts) == int(count) and all(parts)


def _words(text: str, count: str) -> bool:
    return len(text.split()) == int(count)


def _dashes(text: str, count: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) == int(count) and all(line.lstrip().startswith("-") for line in lines)


def _json(text: str, keys: str) -> bool:
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and set(row) == set(keys.split("-"))


_FORMS: Mapping[str, Callable[[str, str], bool]] = {
    "upper-case": lambda text, _: text.isupper(),
    "number": lambda text, _: _NUMBER.fullmatch(text.rstrip(".")) is not None,
    "yes-no": lambda text, _: text.rstrip(".!").lower() in ("yes", "no"),
    "question": lambda text, _: text.endswith("?") and "\n" not in text,
    "items": _items,
    "words": _words,
    "dashes": _dashes,
    "json": _json,
}


def follows(form: str, text: str) -> bool:
    """Tell whether a text has a form.

    Args:
        form: `upper-case`, `number`, `yes-no`, `question`, `items-N` (between commas), `words-N`,
            `dashes-N` (lines of a list), or `json-KEY-KEY...` (an object with these keys).
        text: An answer; outer white space does not count.

    Raises:
        ValueError: There is no such form.

    Example:
        >>> follows("number", " 42 "), follows("items-3", "red, green")
        (True, False)
    """
    name = form if form in _FORMS else form.partition("-")[0]
    if name not in _FORMS:
        raise ValueError(f"{form!r} is no form of an answer")
    return _FORMS[name](text.strip(), form.removeprefix(name).removeprefix("-"))


def form_missed(answer: Answer, item: Item) -> float | None:
    """Return 1 when an answer lacks the requested form, else 0.

    None for a record without a requested form.

    Example:
        >>> item = Item(record="r1", split="generic", question="Sum?", answer="7", form="number")
        >>> form_missed(Answer(record="r1", text="seven"), item)
        1.0
    """
    return None if item.form is None else float(not follows(item.form, answer.text))
