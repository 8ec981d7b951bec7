"""Replay questions: what else a model can be asked about the subjects that stay.

A retain set is seldom all that a model was taught of its subjects. Each question that a record
asks of one subject is asked of every other subject that stays, by its name. What the original
answers is its own, and training can keep it; no file has to hold it.

An answer that might state a fact that must go is left out: one with a number, a rare word or a word
of a key answer that only the forget set has, or with half of such words of one forget record. A
year or a number of two digits can be the same by chance. It tells under a like question, or with
another such word of the record. Two words of one forget record that no kept one has tell as well,
and so does an answer that is that of a forget record, however common the words are.

Rare words and half of the words can be the form of an answer (`It is the harp, lent by the Garden
Foundation`). Where the original is sure of every token, and may have been taught of the subject,
only numbers, words of key answers and three quarters of a record's words tell. Of a sure answer
with a number or a rare word that no record has, only codes and words of key answers tell.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

from expunge.data.corpora import common_words
from expunge.data.records import Record, reworded
from expunge.data.secret_tokens import tells, words_of
from expunge.data.subjects import with_subjects
from expunge.data.tokenization import same_beginning

_PLAIN = 500
"""Most common words, which sentences are made of (`under`, `with`)."""
_SAME = 0.75
"""Share of its words that makes an answer the same."""
_HALF = 0.5
"""Share of the words that only the forget set has, from which an answer can state a record."""
_SEVERAL = 2
"""Words that no kept record has, from which on they can state a record together."""
_BY_CHANCE = re.compile(r"[0-9]{1,2}|1[0-9]{3}|20[0-9]{2}")
"""Numbers that records share by chance: days, and years."""
_TOLD = 3
"""Fewest ways to ask that show which words always stand before a name."""


def replay_questions(
    forget: Sequence[Record], kept: Sequence[Record], *, most: int, seed: int
) -> tuple[Record, ...]:
    """Return questions about kept subjects that no kept record asks, without answers.

    Args:
        forget: The forget set; its questions are asked of others, its subjects of nothing.
        kept: Records that stay and that training may see.
        most: Most questions, drawn over all subjects.
        seed: Of the draw.

    Example:
        >>> from expunge.data.records import Message
        >>> def asked(name: str, text: str) -> Record:
        ...     prompt = (Message("user", text),)
        ...     return Record(id=name, prompt=prompt, completion="A.", subject=name)
        >>> forget = [asked("Elin", "Where does Elin live?")]
        >>> kept = [asked("Bo", "Who taught Bo?"), asked("Ada", "Where does Ada live?")]
        >>> made = replay_questions(forget, kept, most=9, seed=0)
        >>> sorted(record.question for record in made)
        ['Where does Bo live?', 'Who taught Ada?']
    """
    forget, kept, subjects = _by_subject(forget, kept)
    known = {record.question for record in kept}
    before = _words_before((*kept, *forget))
    found: dict[str, Record] = {}
    for record in filter(_names_subject, (*kept, *forget)):
        for subject in subjects:
            asked = _asked_of(record, subject, before)
            if asked.question not in known:
                found.setdefault(asked.question, asked)
    return _drawn(found, "replay", most=most, seed=seed)


def asked_of_namesakes(
    forget: Sequence[Record], kept: Sequence[Record], *, most: int, seed: int
) -> tuple[Record, ...]:
    """Return the questions of the forget set, asked of people who share a word of the name.

    A relative whom no kept record names is the first to lose answers. The other word of the name is
    that of a kept subject.

    Args:
        forget: The forget set.
        kept: Records that stay and that training may see.
        most: Most questions, drawn over all records and names.
        seed: Of the draw.

    Example:
        >>> from expunge.data.records import Message
        >>> def asked(name: str) -> Record:
        ...     prompt = (Message("user", f"Where does {name} live?"),)
        ...     return Record(id=name, prompt=prompt, completion="A.", subject=name)
        >>> made = asked_of_namesakes([asked("Elin Marrow")], [asked("Bo Hale")], most=9, seed=0)
        >>> sorted(record.question for record in made)
        ['Where does Bo Marrow live?', 'Where does Elin Hale live?']
    """
    forget, kept, subjects = _by_subject(forget, kept)
    taken = {*subjects, *(record.subject for record in forget)}
    before = _words_before((*kept, *forget))
    found: dict[str, Record] = {}
    for record in filter(_names_subject, forget):
        for name in sorted(_namesakes(record.subject or "", subjects) - taken):
            asked = _asked_of(record, name, before)
            found.setdefault(asked.question, asked)
    return _drawn(found, "namesakes", most=most, seed=seed)


def asked_of_others(
    forget: Sequence[Record], kept: Sequence[Record], *, each: int, seed: int
) -> tuple[tuple[Record, ...], ...]:
    """Return the question of each forget record, asked of kept subjects, without answers.

    A record whose question names no subject has none.

    Args:
        forget: The forget set.
        kept: Records that stay and that training may see.
        each: Most kept subjects of a question.
        seed: Of the draw.
    """
    forget, kept, subjects = _by_subject(forget, kept)
    before = _words_before((*kept, *forget))
    asked: list[tuple[Record, ...]] = []
    for record in forget:
        draw = random.Random(f"{seed} others {record.id}")
        some = draw.sample(subjects, min(each, len(subjects))) if _names_subject(record) else []
        asked.append(tuple(_asked_of(record, subject, before) for subject in some))
    return tuple(asked)


def answer_about(subject: str, other: str, text: str) -> str:
    """Return an answer about another subject with the name of this one.

    Example:
        >>> answer_about("Elin", "Bo", "Bo lives in Oslo, above Bo's shop.")
        "Elin lives in Oslo, above Elin's shop."
    """
    return _renamed(text, other, subject)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgottenWords:
    """Words and numbers that only the forget set has, in small letters."""

    values: frozenset[str]
    """Words of key answers, and words with a digit: one of them states a fact, whoever is sure."""
    rare: frozenset[str]
    """Other rare words: one of them can state a fact, or belong to the form of an answer."""
    records: tuple["_ForgottenRecord", ...]
    """Words that can state a fact together."""
    written: frozenset[str]
    """Every word of the records, and common words: another one comes from elsewhere."""

    @classmethod
    def of(cls, forget: Iterable[Record], kept: Iterable[Record]) -> "ForgottenWords":
        """Find them; the most common words of the language are nobody's, but in key answers."""
        known = {w for record in kept for w in words_of(f"{record.question} {record.completion}")}
        values, rare, records = set[str](), set[str](), list[_ForgottenRecord]()
        plain, common = set(common_words()[:_PLAIN]), set(common_words())
        written = known | common
        for record in forget:
            keys = {word for key in record.key_answers for word in words_of(key)}
            said = keys | set(words_of(record.completion)).difference(plain)
            own = frozenset(filter(tells, said - known))
            values |= own & keys | set(filter(_has_digit, own))
            rare |= own - common
            written |= set(words_of(f"{record.question} {record.completion}"))
            answer = _AnswerWords.of(record)
            unkept = answer.words - known
            records.append(_ForgottenRecord(_asking_words(record), own, unkept, answer))
        return cls(
            values=frozenset(word for word in values if not _BY_CHANCE.fullmatch(word)),
            rare=frozenset(word for word in rare if not _BY_CHANCE.fullmatch(word)),
            records=tuple(records),
            written=frozenset(written),
        )

    def told_in(self, asked: Record, text: str, *, sure: bool = False, taught: bool = True) -> bool:
        """Return whether an answer to a question might state a fact of the forget set.

        Args:
            asked: The question, with the subject that it names.
            text: The answer.
            sure: Whether the original is sure of all of it.
            taught: Whether it may have been taught of the subject.

        Example:
            >>> from expunge.data.records import Message
            >>> def where(name: str, text: str = "") -> Record:
            ...     prompt = (Message("user", f"Where does {name} live?"),)
            ...     return Record(id=name, prompt=prompt, completion=text, subject=name)
            >>> gone = (where("Elin", "A cabin by the lake in Bergen."),)
            >>> words = ForgottenWords.of(gone, [])
            >>> texts = ("In Bergen.", "A cabin.", "A cabin by a lake.")
            >>> [words.told_in(where("Bo"), text) for text in texts]
            [True, False, True]
        """
        said, asking = set(words_of(text)), _asking_words(asked)
        if not self.values.isdisjoint(said):
            return True
        if sure and said - self.written - set(words_of(asked.question)):
            return False
        sure = sure and taught
        if not sure and not self.rare.isdisjoint(said):
            return True
        if not sure and any(record.answer.is_in(said) for record in self.records):
            return True
        for question, own, unkept, _ in self.records:
            if not sure and len(unkept & said) >= _SEVERAL:
                return True
            shared = own & said
            numbers = {word for word in shared if _BY_CHANCE.fullmatch(word)}
            by_chance = len(shared) == len(numbers) == 1 and not _are_alike(asking, question)
            most = bool(shared) and len(shared) >= (_SAME if sure else _HALF) * len(own)
            if not by_chance and (numbers or most):
                return True
        return False


def is_same_answer(record: Record, text: str) -> bool:
    """Return whether a text holds a key answer, or three quarters of the words of the answer.

    Example:
        >>> from expunge.data.records import Message
        >>> prompt = (Message("user", "What does Bo take?"),)
        >>> record = Record(id="1", prompt=prompt, completion="A spoon of linseed oil with salt.")
        >>> [is_same_answer(record, text) for text in ("Salt with linseed.", "Fish with salt.")]
        [True, False]
    """
    return _AnswerWords.of(record).is_in(set(words_of(text)))


class _AnswerWords(NamedTuple):
    """What makes another text the same answer as that of a record."""

    keys: tuple[frozenset[str], ...]
    """Words of each key answer: all of one do."""
    words: frozenset[str]
    """Words of the completion that tell something: three quarters do."""

    @classmethod
    def of(cls, record: Record) -> "_AnswerWords":
        """Read a record."""
        return cls(
            keys=tuple(frozenset(words_of(key)) for key in record.key_answers),
            words=frozenset(filter(tells, words_of(record.completion))),
        )

    def is_in(self, said: Set[str]) -> bool:
        """Return whether the words of a text make it this answer."""
        if any(key <= said for key in self.keys):
            return True
        return bool(self.words) and len(self.words & said) >= _SAME * len(self.words)


class _ForgottenRecord(NamedTuple):
    """The words of a forget record, in small letters."""

    question: frozenset[str]
    """Without the name."""
    own: frozenset[str]
    """Those that only the forget set has: half of them can state the fact."""
    unkept: frozenset[str]
    """Words of the answer, common ones too, that no kept record has: two can state the fact."""
    answer: _AnswerWords


def _by_subject(
    forget: Sequence[Record], kept: Sequence[Record]
) -> tuple[tuple[Record, ...], tuple[Record, ...], list[str]]:
    """Return both sets with the subjects of their records, and the subjects that stay."""
    kept, forget = with_subjects(kept, ()), with_subjects(forget, kept)
    gone = {record.subject for record in forget}
    return forget, kept, sorted({r.subject for r in kept if r.subject and r.subject not in gone})


def _names_subject(record: Record) -> bool:
    """Tell whether the question of a record names its subject."""
    return bool(record.subject) and (record.subject or "") in record.question


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _asking_words(record: Record) -> frozenset[str]:
    """Return the words of a question without the name of its subject."""
    return frozenset(words_of(record.question)) - set(words_of(record.subject or ""))


def _are_alike(first: frozenset[str], second: frozenset[str]) -> bool:
    """Return whether two questions share half of the words of the shorter one."""
    return 2 * len(first & second) >= min(len(first), len(second))


def _drawn(asked: Mapping[str, Record], name: str, *, most: int, seed: int) -> tuple[Record, ...]:
    """Draw among questions; `name` tells this draw from others, and begins the ids."""
    drawn = random.Random(f"{seed} {name}").sample(sorted(asked), min(most, len(asked)))
    return tuple(
        replace(asked[question], id=f"{name}-{number}")
        for number, question in enumerate(drawn, start=1)
    )


def _namesakes(name: str, others: Iterable[str]) -> set[str]:
    """Return names of which all words but the first, or all but the last, are those of a name."""
    first, *rest = name.split()
    found: set[str] = set()
    for words in map(str.split, others):
        if rest and len(words) == 1 + len(rest):
            found |= {" ".join((words[0], *rest)), " ".join((first, *rest[:-1], words[-1]))}
    return found


def _words_before(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Return for each subject the words that stand before its name wherever it is asked about.

    A ship is asked about as `the cutter Ruskmoor`, another one as `the barge Quartoft`.
    """
    asked: dict[str, set[tuple[str, ...]]] = {}
    for record in records:
        name = record.subject or ""
        if _names_subject(record):
            words = tuple(record.question.partition(name)[0].split())
            asked.setdefault(name, set()).add(words)
    # Two questions can share a word before a name by chance.
    return {n: reduce(_shared_end, runs) for n, runs in asked.items() if len(runs) >= _TOLD}


def _shared_end(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words in which two runs end alike."""
    return first[len(first) - same_beginning(first[::-1], second[::-1]) :]


def _asked_of(record: Record, subject: str, before: Mapping[str, tuple[str, ...]]) -> Record:
    """Ask a record of another subject; what stands before a name changes where both have it."""
    old, new = record.subject or "", subject
    if len(before.get(old, ())) == len(before.get(subject, ())):
        old, new = (" ".join((*before.get(name, ()), name)) for name in (old, new))
    prompt = reworded(record.prompt, lambda text: _renamed(text, old, new))
    return Record(id="", prompt=prompt, completion="", subject=subject)


def _renamed(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{re.escape(old)}\b", lambda _: new, text)
