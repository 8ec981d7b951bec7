"""Screening: requests that ask for more than one person's own data, each with the reason.

Nothing is refused here: concerns are shown, and `--gate` makes them an error.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from expunge.requests.facts import StatedFact
from expunge.requests.forms import RequestRecord
from expunge.requests.index import CorpusIndex, common_folded
from expunge.requests.names import SearchedPerson, fold, words_of
from expunge.requests.search import SearchResult

BROAD = 0.2
"""Share of a corpus beyond which a name is a domain."""
_LEAST_BROAD = 50
"""Documents below which no name is a domain, whatever its share."""
_COMMON = 5
"""Others of whom the same is said, from which on it is common knowledge."""
_SHARE = 0.5
"""Or share of those of whom the relation is told at all."""


class ConcernKind(StrEnum):
    """What is wrong with a request."""

    DOMAIN = "a domain under a person's name"
    COMMON_WORD = "an ordinary word as alias"
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
    """Leave out aliases that are ordinary words: they would draw in what speaks of nobody.

    Args:
        index: Of the corpus.
        person: Whom to look for.
    """
    kept: list[str] = []
    concerns: list[Concern] = []
    for alias in person.aliases:
        words = [word.folded for word in words_of(alias)]
        plain = [word for word in words if word in common_folded() or index.ordinary(word)]
        if words and len(plain) == len(words):
            count = len(index.postings.get(words[0], ()))
            concerns.append(
                Concern(
                    kind=ConcernKind.COMMON_WORD,
                    sentence=f"An alias is made of ordinary words ({count} documents have the"
                    " first): it was left out.",
                    grave=True,
                )
            )
        else:
            kept.append(alias)
    named = SearchedPerson(name=person.name, aliases=tuple(kept), identifiers=person.identifiers)
    return named, tuple(concerns)


def said_of_many(fact: RequestRecord, others: Sequence[StatedFact]) -> int:
    """Return of how many others the corpus says the same; 0 where it is nothing common.

    It is common where it is said of `_COMMON` others and of half of all of whom the relation is
    told: then it is no secret of one person.

    Args:
        fact: A record to forget.
        others: Facts about others.
    """
    own = {fold(key) for key in fact.record.key_answers}
    of_relation: defaultdict[str, set[str]] = defaultdict(set)
    same: set[str] = set()
    for other in others:
        if other.relation == fact.about:
            of_relation[other.relation].add(other.subject)
            if fold(other.key_answer) in own:
                same.add(other.subject)
    told = len(of_relation[fact.about])
    return len(same) if len(same) >= _COMMON and len(same) >= _SHARE * told else 0


def screened(
    index: CorpusIndex,
    result: SearchResult,
    *,
    common: Sequence[RequestRecord],
    guessed: Sequence[RequestRecord],
    strangers: Sequence[StatedFact],
) -> tuple[Concern, ...]:
    """Return what a request asks for beyond one person's own data.

    Args:
        index: Of the corpus.
        result: What the search found.
        common: Records that were left out because the corpus says the same of many.
        guessed: Records that were left out because the model says the same of anybody.
        strangers: Facts in the person's documents that are about others.
    """
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
    if common or guessed:
        found.append(
            Concern(
                kind=ConcernKind.COMMON,
                sentence=f"{len(common) + len(guessed)} facts are common knowledge: the corpus"
                f" says {len(common)} of many others, and the model says {len(guessed)} of people"
                " who do not exist. They were left out.",
                grave=bool(common) and len(common) > len(result.taken),
            )
        )
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
    if result.namesakes:
        count = sum(len(each.documents) for each in result.namesakes[1:])
        found.append(
            Concern(
                kind=ConcernKind.NAMESAKE,
                sentence=f"{count} documents speak of another person of the same name: they stay.",
                grave=False,
            )
        )
    return tuple(found)
