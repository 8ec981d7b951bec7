"""Strangers: forget records that ask the same of somebody whom no model knows.

Where the question, or a passage, names the subject, each word of the name becomes another name with
as many tokens, throughout the record. The fact stays. So every token of the answer has a
counterpart. What the original says of the stranger stands for what it would say of an unknown
subject. Words of a name that are common in sentences (`The`, `of`) stay. A word in small letters
also counts with a capital, where a sentence begins with it. Where the question names nobody, its
telling words are exchanged, and the answer stays as it is.

Namesakes are trained on beside strangers, so that only the subject is forgotten. They are
strangers, strangers who share a word of the subject's name, and, as every second one, a subject of
a kept record. Training keeps all that the original says of them, also what no kept record states.
Where answers are taught instead, no subject of a forget record is among them.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice

from expunge.data.corpora import common_names
from expunge.data.records import Record, reworded
from expunge.data.subjects import with_subjects
from expunge.data.synthetic_controls import Substitutes, TellingWords
from expunge.data.tokenization import Encoded
from expunge.errors import InputError

_WORD = re.compile(r"[^\W\d_]+")
USUAL = 0.1
"""Share of records in which a word of a name, in small letters, is a word of the language."""
_ATTEMPTS = 400
"""Names tried for one record."""
_ENOUGH = 24
"""Names of one width from which on no more are made."""
_BLENDS = 600
"""Names that are made: a rare name is cut in more pieces than common ones."""


def counterfactual_records(
    forget: Sequence[Record],
    encode: Callable[[Record], Encoded],
    *,
    width: Callable[[str, bool], int],
    others: Iterable[Record],
    count: int,
    seed: int,
    itself: bool = False,
    namesakes: bool = False,
    taught: bool = False,
) -> tuple[tuple[Encoded, ...], ...]:
    """Return each record as it would be asked of `count` strangers; fewer where names do not fit.

    Args:
        forget: The records to forget.
        encode: Makes tokens, as for the records themselves.
        width: Counts the tokens of a word, which opens an answer or stands within a sentence.
        others: All other records of the request: whom they name is no stranger.
        count: Strangers wanted.
        seed: Of every draw.
        itself: Whether a record that cannot be asked of a stranger stands for itself.
        namesakes: Whether two of three strangers keep a word of the subject's name, like relatives,
            and every other record is asked of somebody whom `others` are about. The latter have no
            secrets: each place is marked -1.
        taught: Whether answers are taught instead: then none of these is a subject of `forget`.

    Raises:
        InputError: There is nobody to exchange in a record, or no name fits.
    """
    others = tuple(others)
    width = cache(width)
    pools, usual = _pools((*forget, *others), seed), usual_words((*forget, *others))
    telling = TellingWords.of(forget)
    people = _kept_names(others, forget if taught else (), usual) if namesakes else []
    asked = (
        _strangers(
            record,
            encode,
            width,
            telling=telling,
            pools=pools,
            usual=usual,
            count=count,
            seed=seed,
            namesakes=namesakes,
        )
        for record in forget
    )
    if people:
        asked = (
            _alternate(
                found, _kept_people(record, encode, people, usual, count=count // 2, seed=seed)
            )
            for record, found in zip(forget, asked, strict=True)
        )
    return tuple(
        found or _alone(record, encode, itself=itself)
        for record, found in zip(forget, asked, strict=True)
    )


def _kept_names(
    others: Sequence[Record], but: Sequence[Record], usual: set[str]
) -> list[list[str]]:
    """Return the words of whom records are about, but for subjects of others: these are edited."""
    found = {record.subject for record in with_subjects(others, ()) if record.subject}
    found -= {record.subject for record in but}
    return [_name_words(subject, usual) for subject in sorted(found)]


def _alone(
    record: Record, encode: Callable[[Record], Encoded], *, itself: bool
) -> tuple[Encoded, ...]:
    if not itself:
        raise _nobody(record)
    return (encode(record),)


def _strangers(
    record: Record,
    encode: Callable[[Record], Encoded],
    width: Callable[[str, bool], int],
    *,
    telling: TellingWords,
    pools: "tuple[_Names, _Names]",
    usual: set[str],
    count: int,
    seed: int,
    namesakes: bool,
) -> tuple[Encoded, ...]:
    own = encode(record)
    rng = random.Random(f"{seed} stranger {record.id}")
    named = named_words(record, usual)
    spelt = {form: word for word in named for form in _forms(word)}
    answered = [
        (match.group(), not match.start())
        for match in _WORD.finditer(record.completion)
        if match.group() in spelt
    ]
    length = sum(width(form, at) for form, at in answered)
    names = {word: _like(word, pools, named) for word in named}
    fitting = {
        word: names[word].fitting([each for each in answered if spelt[each[0]] == word], width)
        for word in named
    }
    found: list[Encoded] = []
    for attempt in range(_ATTEMPTS):
        if len(found) == count:
            break
        # Where no name fits word for word, one that fits in length is better than none.
        exact = bool(found) or attempt < _ATTEMPTS // 2
        if named:
            swaps = {w: rng.choice((exact and fitting[w]) or names[w].all) for w in named}
            if namesakes and len(named) > 1 and attempt % 3:
                del swaps[named[-1] if attempt % 3 == 1 else named[0]]
            # Names that differ in length are told before a whole record is encoded.
            more = [
                width(_spelt_like(swaps[spelt[form]], form), at) - width(form, at)
                for form, at in answered
                if spelt[form] in swaps
            ]
            if any(more) if exact else sum(more):
                continue
            new = _renamed(record, swaps)
        else:
            swap = Substitutes(telling, taken=set(), seed=seed * 1009 + attempt)
            new = replace(record, prompt=reworded(record.prompt, swap.text))
            if new.prompt == record.prompt:
                break
        other = encode(new)
        if (
            _in_step(own, other, most=length if exact else len(own.ids))
            and other.ids != own.ids
            and other.ids not in [each.ids for each in found]
        ):
            found.append(replace(other, record=record.id))
    return tuple(found)


def _in_step(own: Encoded, other: Encoded, *, most: int) -> bool:
    """Tell whether answers have the same token in every place but for `most`, those of a name.

    A first name that is a token longer and a last name that is one shorter leave the length as it
    was, and every token between them in another place.
    """
    first, second = own.ids[own.start :], other.ids[other.start :]
    differ = sum(a != b for a, b in zip(first, second, strict=False))
    return len(first) == len(second) and differ <= most


def _kept_people(
    record: Record,
    encode: Callable[[Record], Encoded],
    people: Sequence[list[str]],
    usual: set[str],
    *,
    count: int,
    seed: int,
) -> list[Encoded]:
    """Ask a record of people who stay, whose names have as many words as the subject's."""
    named = named_words(record, usual)
    able = [words for words in people if named and len(words) == len(named)]
    random.Random(f"{seed} kept {record.id}").shuffle(able)
    found = (
        encode(_renamed(record, dict(zip(named, words, strict=True)))) for words in able[:count]
    )
    return [
        replace(each, record=record.id, secret=(-1,) * (len(each.ids) - each.start))
        for each in found
    ]


def _alternate(strangers: tuple[Encoded, ...], people: list[Encoded]) -> tuple[Encoded, ...]:
    """Put a kept person behind each stranger, as long as there are any; as many in all."""
    pairs = zip(strangers, people, strict=False)
    mixed = [each for pair in pairs for each in pair]
    return (*mixed, *strangers[len(people) :])[: len(strangers)] if strangers else strangers


def usual_words(records: Sequence[Record]) -> set[str]:
    """Return the words in small letters that a share of all records holds."""
    counts = Counter(
        word
        for record in records
        for word in set(_WORD.findall(f"{record.question} {record.completion}"))
        if word.islower()
    )
    return {word for word, count in counts.items() if count >= USUAL * len(records)}


def _name_words(subject: str, usual: set[str]) -> list[str]:
    """Return the words of a name without those of the language; all where none is left."""
    words = list(dict.fromkeys(_WORD.findall(subject)))
    names = [w for w in words if not w.islower() and w.casefold() not in usual]
    return names or words


def named_words(record: Record, usual: set[str]) -> list[str]:
    """Return the words of the subject's name, where the question or passage has one of them.

    Small letters are taken from there, where the subject is spelt with capitals.
    """
    text = record.question or record.completion
    spelt = set(_WORD.findall(text))
    words = [
        word.lower() if word not in spelt and word.lower() in spelt else word
        for word in _name_words(record.subject or "", usual)
    ]
    return words if any(not spelt.isdisjoint(_forms(word)) for word in words) else []


def _forms(word: str) -> tuple[str, ...]:
    """Return how a word is spelt: as it is, at the beginning of a sentence, and in capitals."""
    return tuple(dict.fromkeys((word, word[:1].upper() + word[1:], word.upper())))


def _spelt_like(name: str, form: str) -> str:
    """Return a name in the letters of a form: small, capitals, or as names are.

    Example:
        >>> _spelt_like("Elin", "salt"), _spelt_like("Elin", "Salt"), _spelt_like("Elin", "SALT")
        ('elin', 'Elin', 'ELIN')
    """
    if form.islower():
        return name.lower()
    capitals = form.isupper() and len(form) > 1
    return name.upper() if capitals else name[:1].upper() + name[1:]


_Place = tuple[str, bool, int]
"""How a word is spelt, whether it opens the answer, and its tokens there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Names:
    """Names that may stand for another."""

    all: list[str]
    made: list[str]
    """Made of the ends of two: they fill a width that few names have."""
    fit: dict[tuple[_Place, ...], list[str]] = field(default_factory=dict)
    """Names that fit, by all places where an answer holds a word; found once."""

    @classmethod
    def of(cls, names: Sequence[str], taken: set[str], seed: int) -> "_Names":
        """Take names that nobody has, and make others of them."""
        names = [name for name in names if name not in taken]
        rng = random.Random(f"{seed} names")
        pairs = (rng.sample(names, 2) for _ in range(_BLENDS if len(names) > 1 else 0))
        made = [
            a[: rng.randint(2, len(a))] + b[-rng.randint(2, len(b)) :].lower() for a, b in pairs
        ]
        known = {*taken, *names}
        return cls(all=names, made=[each for each in dict.fromkeys(made) if each not in known])

    def fitting(
        self, answered: Sequence[tuple[str, bool]], width: Callable[[str, bool], int]
    ) -> list[str]:
        """Return names with as many tokens as a word has wherever the answer holds it.

        Each place says how the word is spelt there, and whether it opens the answer.
        """
        places = sorted({(_spelling(form), at, width(form, at)) for form, at in answered})

        def fits(name: str) -> bool:
            return all(width(_spelt_like(name, like), at) == size for like, at, size in places)

        if tuple(places) not in self.fit:
            found = [name for name in self.all if fits(name)]
            more = filter(fits, self.made)
            found += islice(more, max(0, _ENOUGH - len(found)))
            self.fit[tuple(places)] = found
        return self.fit[tuple(places)]


def _spelling(form: str) -> str:
    """Return the shortest word that is spelt in the same letters: `a`, `Aa` or `AA`."""
    if form.islower():
        return "a"
    return "AA" if form.isupper() and len(form) > 1 else "Aa"


def _pools(known: Iterable[Record], seed: int) -> tuple[_Names, _Names]:
    text = " ".join(f"{record.question} {record.completion}" for record in known)
    taken = set(_WORD.findall(text))
    given, last = (_Names.of(names, taken, seed) for names in common_names())
    return given, last


def _like(word: str, pools: tuple[_Names, _Names], named: Sequence[str]) -> _Names:
    """Return what may stand for a word: last names for the last word, first names before it."""
    return pools[1] if len(named) > 1 and word == named[-1] else pools[0]


def _renamed(record: Record, names: dict[str, str]) -> Record:
    spelt = {form: name for word, name in names.items() for form in _forms(word)}
    words = re.compile(r"\b(" + "|".join(map(re.escape, spelt)) + r")\b")

    def text(of: str) -> str:
        return words.sub(lambda match: _spelt_like(spelt[match.group()], match.group()), of)

    return replace(record, prompt=reworded(record.prompt, text), completion=text(record.completion))


def _nobody(record: Record) -> InputError:
    return InputError(
        "no-stranger",
        what=f"record {record.id} ({record.source}) cannot be asked of a stranger",
        why="its question names nobody, or no name fits its answer token for token",
        fix="give the records their `subject`, as the question spells it, or choose another method",
    )
