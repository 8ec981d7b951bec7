"""Secret tokens: which tokens of an answer only its own record can have taught.

Words that no kept record holds, and numbers. What most kept answers to the same question have in
the same place is the form of the answer, and nobody's secret.

Which records ask the same: what an unseen record tells of one that was seen.

Two questions ask the same when they share at least half of their words, names of the subjects not
counted: |A and B| / |A or B| >= 1/2. How surprising an answer is depends on what is asked (a
salary is easily guessed, an employer is not), so a mean over all of them fits few.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from expunge.data.counterfactuals import named_words, usual_words
from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder

SHARED = 0.5
_CLOSE = 0.9
"""Share of the best match that counts as a match."""
_TELLING = 4
"""Fewest letters of a word that tells something."""
_MANY = 20
"""Kept answers from which on a short word (`bus`) that none of them holds tells something."""
_COMPARED = 20
"""Most kept answers to the same question whose numbers are compared."""
_TOKEN = re.compile(r"\w+")


def same_question(forget: Sequence[Record], others: Sequence[Record]) -> dict[str, tuple[int, ...]]:
    """Return for each forget record, by its id, the indices of the others that ask the same."""
    words = [_words(record) for record in others]
    found: dict[str, tuple[int, ...]] = {}
    for record in forget:
        own = _words(record)
        found[record.id] = tuple(
            index
            for index, other in enumerate(words)
            if own and len(own & other) >= SHARED * len(own | other)
        )
    return found


def _words(record: Record) -> frozenset[str]:
    """Return the words of a question without those of its subject's name; none for a passage."""
    named = words_of(record.subject or "")
    return frozenset(words_of(record.question)) - frozenset(named)


def words_of(text: str) -> list[str]:
    """Return the words and numbers of a text in small letters."""
    return _TOKEN.findall(text.casefold())


def tells(word: str) -> bool:
    """Return whether a word tells something by itself: a number does, and a word of four letters.

    Example:
        >>> [tells(word) for word in ("of", "7", "oslo")]
        [False, True, True]
    """
    return len(word) >= _TELLING or any(map(str.isdigit, word))


def _telling(words: Sequence[str], known: set[str]) -> set[int]:
    """Return the places of words that tell something and are not known."""
    return {p for p, word in enumerate(words) if tells(word) and not _is_known(word, known)}


def with_secrets(
    records: Sequence[Record],
    encoded: Sequence[Encoded],
    kept: Sequence[Record],
    encoder: Encoder,
) -> tuple[Encoded, ...]:
    """Mark in each encoded record the tokens that only it can have taught.

    Secret are words of key answers that no kept record's key answers hold, and words beside them
    that tell something (with a digit, or of four letters and more) and that no kept answer holds.
    A fact all of whose words are known is a secret as a whole. Left out is what most kept records
    with the same words around their facts have in the same place (the `555-` of each phone number).

    Without key answers: words that tell something, but for those that at least half of the kept
    answers to the same question hold, and for what most of these have in the same place of a number
    (the `19` of every year). Where that leaves none, words that not all of these answers hold.

    Of twenty kept answers and more, short words that none holds are secret, too. Never secret are
    words of the question, and of the subject's name where it has it. Digits are never known.

    Args:
        records: The forget records.
        encoded: The same as tokens, with the whole answer or the fact scored.
        kept: Records that stay.
        encoder: Made the tokens.
    """
    known, language = _Kept.of(kept, encoder), usual_words((*records, *kept))
    asked = same_question(records, kept)

    @cache
    def digits(index: int) -> _Digits:
        encoded = encoder.encode(kept[index])
        tokens = encoded.ids[encoded.start :]
        return _digits(tokens, _word_of_each(tokens, encoder))

    marked: list[Encoded] = []
    for record, own in zip(records, encoded, strict=True):
        tokens = own.ids[own.start :]
        name = _all_words(named_words(record, language))
        answer = _Answer(tokens, _word_of_each(tokens, encoder), name)
        if record.key_answers:
            fact = encoder.encode_fact(record)
            span = range(fact.start - own.start, len(fact.ids) - own.start)
            hidden = known.secrets_of_fact(record, answer, span)
        else:
            same = asked[record.id]
            said = [known.said[index] for index in same]
            hidden = _telling(answer.words, _usual(said) | answer.name)
            hidden -= _of_question(answer.words, record)
            hidden -= _constant_digits(answer, [digits(index) for index in same[:_COMPARED]])
            hidden = hidden or _not_in_all(answer, said) - _of_question(answer.words, record)
        hidden = hidden | (known.unspoken(answer) - _of_question(answer.words, record))
        marks = (
            token
            if place in hidden and not _is_of_name(token, answer.words[place], name, encoder)
            else -1
            for place, token in enumerate(tokens)
        )
        marked.append(replace(own, secret=tuple(marks)))
    return tuple(marked)


class _Answer(NamedTuple):
    """The scored tokens of a forget record."""

    tokens: tuple[int, ...]
    words: list[str]
    """The word that each token is a part of."""
    name: set[str]
    """Words of the subject's name, where the question has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """What kept records hold, so that it is nobody's secret."""

    values: list[tuple[int, ...]]
    """Tokens of each key answer."""
    frames: list[frozenset[str]]
    """Words around each."""
    told: set[str]
    """Words of all key answers."""
    said: list[set[str]]
    """Words of the answer of each record."""
    spoken: set[str]
    """Words of all answers."""

    @classmethod
    def of(cls, kept: Sequence[Record], encoder: Encoder) -> "_Kept":
        named = [record for record in kept if record.key_answers]
        said = [_all_words([record.completion]) for record in kept]
        return cls(
            values=[fact.ids[fact.start :] for fact in map(encoder.encode_fact, named)],
            frames=[_frame(record) for record in named],
            told=_all_words(answer for record in named for answer in record.key_answers),
            said=said,
            spoken=set[str]().union(*said),
        )

    def unspoken(self, answer: _Answer) -> set[int]:
        """Return the places of short words that none of many kept answers holds."""
        if len(self.said) < _MANY:
            return set()
        known = self.spoken | answer.name | {""}
        return {
            place
            for place, word in enumerate(answer.words)
            if len(word) < _TELLING and word.isalpha() and word not in known
        }

    def secrets_of_fact(self, record: Record, answer: _Answer, span: range) -> set[int]:
        """Return the secret places of a record whose key answer lies at `span`."""
        like = [self.values[index] for index in _nearest(_frame(record), self.frames)]
        # Between the first key answer and the last stand words that tell nothing of either.
        own = _all_words(record.key_answers) - answer.name
        told = {place for place in span if answer.words[place] in own}
        whole = {
            place
            for place in told
            if not _is_constant(answer.tokens[place], place - span.start, like)
        }
        hidden = {place for place in whole if not _is_known(answer.words[place], self.told)}
        beside = _telling(answer.words, self.spoken | answer.name) - told
        return (hidden or whole) | (beside - _of_question(answer.words, record))


def _usual(answers: Sequence[set[str]]) -> set[str]:
    """Return the words that at least half of some answers hold."""
    counts = Counter(word for each in answers for word in each)
    return {word for word, count in counts.items() if 2 * count >= len(answers)}


def _of_question(words: Sequence[str], record: Record) -> set[int]:
    """Return the places of words that the question has, in whatever ending."""
    stems = {word[:_TELLING] for word in _all_words([record.question])}
    return {place for place, word in enumerate(words) if word[:_TELLING] in stems}


def _all_words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in words_of(text)}


def _word_of_each(tokens: Sequence[int], encoder: Encoder) -> list[str]:
    """Return the word that each token is a part of; empty for what is none."""
    pieces = [encoder.written((token,)) for token in tokens]
    words = [""] * len(tokens)
    for match in _TOKEN.finditer("".join(pieces)):
        end = 0
        for place, piece in enumerate(pieces):
            begin, end = end, end + len(piece)
            if begin < match.end() and end > match.start():
                words[place] = match.group().casefold()
    return words


def _is_known(word: str, known: set[str]) -> bool:
    return word in known and not any(char.isdigit() for char in word)


def _frame(record: Record) -> frozenset[str]:
    """Return the words of a question and of its answer around the fact, names not counted."""
    text = record.completion.casefold()
    for key_answer in record.key_answers:
        text = text.replace(key_answer.casefold(), " ")
    named = words_of(record.subject or "")
    return frozenset(words_of(f"{record.question} {text}")) - frozenset(named)


def _nearest(frame: frozenset[str], others: Sequence[frozenset[str]]) -> list[int]:
    """Return the indices of the frames that share most words, at least half, with one."""
    shared = [len(frame & other) / max(1, len(frame | other)) for other in others]
    least = max([SHARED, *(_CLOSE * each for each in shared)])
    return [index for index, each in enumerate(shared) if each >= least]


def _is_of_name(token: int, word: str, name: set[str], encoder: Encoder) -> bool:
    """Tell whether a token spells the name within a word that holds it (`emarrow`)."""
    text = encoder.written((token,)).strip().casefold()
    return len(text) > 1 and any(text in each and each in word for each in name)


_Digits = dict[tuple[int, int], tuple[int, int]]
"""Number, counted from 0, and place within it, to the place in the answer and the token there."""


def _constant_digits(answer: _Answer, others: Sequence[_Digits]) -> set[int]:
    """Return the places in numbers where most of at least two kept answers have the same token."""
    most = max(1, len(others) // 2)
    return {
        place
        for at, (place, token) in _digits(answer.tokens, answer.words).items()
        if sum(at in found and found[at][1] == token for found in others) > most
    }


def _not_in_all(answer: _Answer, said: Sequence[set[str]]) -> set[int]:
    """Return the places of words that some of the kept answers to the same question lack."""
    common = set[str].intersection(*said) if said else set(answer.words)
    known = common | answer.name | {""}
    return {place for place, word in enumerate(answer.words) if word not in known}


def _digits(tokens: Sequence[int], words: Sequence[str]) -> _Digits:
    found: _Digits = {}
    number, offset, before = -1, 0, ""
    for place, (token, word) in enumerate(zip(tokens, words, strict=True)):
        if any(char.isdigit() for char in word):
            number, offset = (number, offset + 1) if word == before else (number + 1, 0)
            found[number, offset] = place, token
        before = word
    return found


def _is_constant(token: int, place: int, values: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether most of at least two values have the token in this place."""
    there = sum(place < len(value) and value[place] == token for value in values)
    return len(values) > 1 and 2 * there > len(values)
