"""Screening: requests that ask for more than one person's own data, each with the reason.

Nothing is refused here: concerns are shown, and `--gate` makes them an error.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from expunge.data.corpora import general_records
from expunge.data.records import Record
from expunge.data.splits import normalise
from expunge.requests.corpus import sentences
from expunge.requests.facts import BIRTH, SINGLE, StatedFact, dates_in, stated_facts
from expunge.requests.forms import FactForm, RequestRecord
from expunge.requests.index import CorpusIndex, common_folded
from expunge.requests.knowledge import Knowledge
from expunge.requests.names import (
    MentionKind,
    NameShape,
    SearchedPerson,
    fold,
    is_one_letter,
    words_of,
)
from expunge.requests.search import SearchResult
from expunge.requests.stuffed_words import stuffed_words
from expunge.requests.support import comparable_values, differing

BROAD = 0.2
"""Share of a corpus beyond which a name is a domain."""
_LEAST_BROAD = 50
"""Documents below which no name is a domain, whatever its share."""
_COMMON = 5
"""Others of whom the same is said, from which on it is common knowledge."""
_SHARE = 0.5
"""Or share of those of whom the relation is told at all."""
_PEOPLE = 8
"""Other people in the documents of a name from which on it may be a place or a firm."""
_CROWDED = 0.25
"""And as a share of these documents."""
_SHOWN = 8
"""Stuffed words that a sentence shows."""


class ConcernKind(StrEnum):
    """What is wrong with a request."""

    DOMAIN = "a domain under a person's name"
    COMMON_WORD = "an ordinary word as alias"
    STUFFED = "ordinary words stuffed in"
    OFF_TOPIC = "records about something else"
    COMMON = "common knowledge"
    ANOTHER = "another person's data"
    NAMESAKE = "another person of the name"


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """One reason to look twice, in a sentence without texts of records."""

    kind: ConcernKind
    sentence: str
    grave: bool
    """Whether `--gate` refuses the request for it; else something was left out already."""


def usable_aliases(
    index: CorpusIndex, person: SearchedPerson
) -> tuple[SearchedPerson, tuple[Concern, ...]]:
    """Leave out aliases that are ordinary words or another person's name.

    They would draw in what speaks of nobody, or of somebody else.

    Args:
        index: Of the corpus.
        person: Whom to look for.
    """
    kept: list[str] = []
    concerns: list[Concern] = []
    own = _single_values(index, person.name)
    for alias in person.aliases:
        words = [word.folded for word in words_of(alias)]
        plain = [word for word in words if word in common_folded() or index.ordinary(word)]
        if words and (len(plain) == len(words) or is_one_letter(alias)):
            count = len(index.postings.get(words[0], ()))
            concerns.append(
                Concern(
                    kind=ConcernKind.COMMON_WORD,
                    sentence=f"An alias is made of ordinary words ({count} documents have the"
                    " first): it was left out.",
                    grave=True,
                )
            )
        elif differ := _contradicting(own, _single_values(index, alias)):
            concerns.append(
                Concern(
                    kind=ConcernKind.ANOTHER,
                    sentence="An alias is the name of another person, with another"
                    f" {' and another '.join(differ)}: it was left out.",
                    grave=True,
                )
            )
        else:
            kept.append(alias)
    return replace(person, aliases=tuple(kept)), tuple(concerns)


def _single_values(index: CorpusIndex, name: str) -> dict[str, set[str]]:
    """Return what documents say of a full name for relations of which a person has one value."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    shape = NameShape(name)
    if not shape.given:
        return found
    for number in index.postings.get(shape.last, ()):
        for fact in stated_facts(index.documents[number]):
            subject = [word.folded for word in words_of(fact.subject)]
            if fact.relation in SINGLE and subject == list(shape.parts):
                found[fact.relation] |= comparable_values(fact.key_answer)
    return found


def _contradicting(own: dict[str, set[str]], other: dict[str, set[str]]) -> list[str]:
    """Return the relations that tell two names apart: a birth, or two and half of those known."""
    both, differ = own.keys() & other.keys(), differing(own, other)
    apart = BIRTH in differ or (len(differ) > 1 and 2 * len(differ) >= len(both))
    return differ if apart else []


def said_of_any(fact: RequestRecord, others: Sequence[StatedFact]) -> int:
    """Return of how many others the corpus says the same.

    Args:
        fact: A record to forget.
        others: Facts about others.
    """
    own = {fold(key) for key in fact.record.key_answers}
    same = {
        other.subject
        for other in others
        if other.relation == fact.about and fold(other.key_answer) in own
    }
    return len(same)


def said_of_many(fact: RequestRecord, others: Sequence[StatedFact]) -> int:
    """Return of how many others the corpus says the same; 0 where it is nothing common.

    It is common where it is said of `_COMMON` others and of half of all of whom the relation is
    told: then it is no secret of one person.

    Args:
        fact: A record to forget.
        others: Facts about others.
    """
    same = said_of_any(fact, others)
    told = len({other.subject for other in others if other.relation == fact.about})
    return same if same >= _COMMON and same >= _SHARE * told else 0


def said_in_general(record: Record) -> bool:
    """Tell whether a record asks for what everybody knows: a question that ships with expunge.

    Args:
        record: A record to forget.
    """
    asked = frozenset(normalise(record.question).split())
    said = f" {normalise(record.completion)} "
    return any(
        question <= asked and any(key in said for key in keys)
        for question, keys in _general_questions()
    )


@cache
def _general_questions() -> tuple[tuple[frozenset[str], tuple[str, ...]], ...]:
    """Return the words of each question that ships with expunge, and its key answers."""
    return tuple(
        (
            frozenset(normalise(each.question).split()),
            tuple(f" {normalise(key)} " for key in each.key_answers),
        )
        for each in general_records()
    )


def names_person(record: Record, person: SearchedPerson) -> bool:
    """Tell whether the turns of a record, or the first sentence of its answer, name a person.

    Part of the name, or an identifier in the question, is enough.

    Args:
        record: A record to forget.
        person: Whom the request is about.
    """
    asked = " ".join(turn.content for turn in record.prompt if turn.role == "user")
    words = words_of(" ".join([asked, *sentences(record.completion)[:1]]))
    shapes = [NameShape(name) for name in (person.name, *person.aliases)]
    named = any(next(shape.mentions(words), None) is not None for shape in shapes)
    return named or any(fold(value) in fold(asked) for value in person.identifiers)


def record_concerns(forget: Sequence[Record], kept: Sequence[Record]) -> tuple[Concern, ...]:
    """Return what is wrong with records themselves, whoever wrote them.

    Args:
        forget: To forget, one a fact.
        kept: What stays.
    """
    found: list[Concern] = []
    if words := stuffed_words(forget, kept):
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        found.append(
            Concern(
                kind=ConcernKind.STUFFED,
                sentence=f"Most records to forget have the words {', '.join(words[:_SHOWN])}{more},"
                " and what stays has hardly any of them: training would make the model avoid"
                " them. Delete them from the records.",
                grave=True,
            )
        )
    if general := sum(map(said_in_general, forget)):
        found.append(
            Concern(
                kind=ConcernKind.COMMON,
                sentence=f"{general} records ask for what everybody knows.",
                grave=True,
            )
        )
    return tuple(found)


def screened(
    index: CorpusIndex,
    result: SearchResult,
    *,
    erase: Sequence[RequestRecord],
    kept: Sequence[RequestRecord],
    common: Sequence[RequestRecord],
    unstated: Sequence[RequestRecord],
    off_topic: Sequence[RequestRecord],
    strangers: Sequence[StatedFact],
) -> tuple[Concern, ...]:
    """Return what a request asks for beyond one person's own data.

    Args:
        index: Of the corpus.
        result: What the search found.
        erase: Records to forget.
        kept: Records that stay.
        common: Records that were left out because the corpus says the same of many.
        unstated: Records that are not trained on: the model guesses them, or does not state them.
        off_topic: Records that were left out because they do not name the person.
        strangers: Facts in the person's documents that are about others.
    """
    guessed = [each for each in unstated if each.knowledge == Knowledge.GUESSED]
    plain = [each.record for each in erase if each.form == FactForm.QUESTION]
    found = [
        *_too_broad(index, result, strangers),
        *record_concerns(plain, [each.record for each in kept]),
    ]
    if off_topic:
        found.append(
            Concern(
                kind=ConcernKind.OFF_TOPIC,
                sentence="Questions in these documents that name this person neither in the"
                f" question nor where the answer begins: {len(off_topic)}. They were left out.",
                grave=len(off_topic) > len(plain),
            )
        )
    if common or guessed:
        found.append(
            Concern(
                kind=ConcernKind.COMMON,
                sentence="Facts that no training uses:"
                f" {len(common)} that many others share or everybody knows,"
                f" {len(guessed)} that the model says of people who do not exist.",
                grave=len(common) > len(plain),
            )
        )
    found += _of_others(index, result, strangers)
    found += _of_several_births([*erase, *unstated])
    return tuple(found)


def _of_several_births(facts: Sequence[RequestRecord]) -> list[Concern]:
    """Notice dates of birth that differ: one document may speak of a namesake."""
    keys = (key for each in facts if each.about == BIRTH for key in each.record.key_answers)
    births = {frozenset(dates) for key in keys if (dates := dates_in(key))}
    if len(births) < 2:
        return []
    sentence = (
        f"These documents give {len(births)} dates of birth: they may speak of {len(births)}"
        " people. Delete the records of the others, or correct the date that is wrong."
    )
    return [Concern(kind=ConcernKind.NAMESAKE, sentence=sentence, grave=True)]


def _too_broad(
    index: CorpusIndex, result: SearchResult, strangers: Sequence[StatedFact]
) -> list[Concern]:
    """Notice a name that is in much of the corpus, or stands for a place, a firm or a topic."""
    found: list[Concern] = []
    share = len(result.taken) / len(index.documents)
    if len(result.taken) >= _LEAST_BROAD and share > BROAD:
        found.append(
            Concern(
                kind=ConcernKind.DOMAIN,
                sentence=f"The name stands in {len(result.taken):,} of"
                f" {len(index.documents):,} documents ({share:.0%}): this is a domain, and"
                " forgetting it changes what the model says of everything near it.",
                grave=True,
            )
        )
    people = {fact.subject for fact in strangers}
    if len(people) >= max(_PEOPLE, _CROWDED * len(result.taken)):
        found.append(
            Concern(
                kind=ConcernKind.DOMAIN,
                sentence=f"The {len(result.taken)} documents with this name are about"
                f" {len(people)} others: it may be a place, a firm or a topic, not a person.",
                grave=True,
            )
        )
    return found


def _of_others(
    index: CorpusIndex, result: SearchResult, strangers: Sequence[StatedFact]
) -> list[Concern]:
    """Notice facts, identifiers and documents of other people."""
    found: list[Concern] = []
    if strangers:
        people = Counter(fact.subject for fact in strangers)
        found.append(
            Concern(
                kind=ConcernKind.ANOTHER,
                sentence=f"{len(strangers)} facts in these documents are about {len(people)} other"
                " people or things: they stay.",
                grave=False,
            )
        )
    foreign = [
        each
        for each in result.taken
        if each.kind == MentionKind.IDENTIFIER and index.people_in(each.document)
    ]
    if foreign:
        found.append(
            Concern(
                kind=ConcernKind.ANOTHER,
                sentence="Documents with an identifier of this person and only the names of others:"
                f" {len(foreign)}. The identifier may be another person's.",
                grave=True,
            )
        )
    if result.namesakes:
        count = sum(len(each.documents) for each in result.namesakes[1:])
        found.append(
            Concern(
                kind=ConcernKind.NAMESAKE,
                sentence=f"{count} documents speak of another person of the same name: they stay.",
                grave=False,
            )
        )
    return found
