"""Replay questions: what else a model can be asked about the subjects that stay.

A retain set is seldom all that a model was taught of its subjects. Each question that a record
asks of one subject is asked of every other subject that stays, by its name. What the original
answers is its own, and training can keep it; no file has to hold it.

An answer that holds a word which only the forget set has is left out: it might state a fact that
must go.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from expunge.data.corpora import common_words
from expunge.data.records import Record, reworded
from expunge.data.subjects import with_subjects

_PLAIN = 500
"""Most common words, which sentences are made of (`under`, `with`)."""
_WORD = re.compile(r"\w+")
_TELLING = 4
"""Fewest letters of a word that tells something; a number tells something with a single digit."""


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
    kept, forget = with_subjects(kept, ()), with_subjects(forget, kept)
    gone = {record.subject for record in forget}
    subjects = sorted({r.subject for r in kept if r.subject and r.subject not in gone})
    known = {record.question for record in kept}
    found: dict[str, Record] = {}
    for record in (*kept, *forget):
        if not record.subject or record.subject not in record.question:
            continue
        for subject in subjects:
            asked = _asked_of(record, subject)
            if asked.question not in known:
                found.setdefault(asked.question, asked)
    drawn = random.Random(f"{seed} replay").sample(sorted(found), min(most, len(found)))
    return tuple(
        replace(found[question], id=f"replay-{number}")
        for number, question in enumerate(drawn, start=1)
    )


def forgotten_words(forget: Iterable[Record], kept: Iterable[Record]) -> frozenset[str]:
    """Return the words and numbers that only the forget set has, in small letters.

    The most common words of the language are nobody's, but for those of key answers.

    Example:
        >>> from expunge.data.records import Message
        >>> prompt = (Message("user", "Where does Elin live?"),)
        >>> gone = Record(id="1", prompt=prompt, completion="Under Bergen, 7 B.")
        >>> sorted(forgotten_words([gone], []))
        ['7', 'bergen']
    """
    known = {w for record in kept for w in words_of(f"{record.question} {record.completion}")}
    forget = tuple(forget)
    keys = {word for r in forget for key in r.key_answers for word in words_of(key)}
    said = {word for r in forget for word in words_of(r.completion)}
    told = keys | said.difference(common_words()[:_PLAIN])
    return frozenset(
        word for word in told - known if len(word) >= _TELLING or any(map(str.isdigit, word))
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters."""
    return _WORD.findall(text.casefold())


def _asked_of(record: Record, subject: str) -> Record:
    old = re.compile(rf"\b{re.escape(record.subject or '')}\b")
    prompt = reworded(record.prompt, lambda text: old.sub(lambda _: subject, text))
    return Record(id="", prompt=prompt, completion="", subject=subject)
