"""Support: how much the values of a document speak for one person, and which speak against.

    s(v) = log( (a + 1/2) / (A + 1) ) - log( (b + 1/2) / (B + 1) )

a of the A sure documents and b of the B others hold the value v, the judged document not counted.
The support of a document is the sum of its five best values above `WORTH`.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from expunge.requests.facts import SINGLE, dates_in, stated_facts
from expunge.requests.index import CorpusIndex
from expunge.requests.names import (
    NameMention,
    NameShape,
    SearchedPerson,
    edits_between,
    fold,
    words_of,
)
from expunge.requests.unspaced import is_unspaced

WORTH = 2.0
"""Nats of a value below which it tells nothing."""
SURE = 4.0
"""Nats of support that one value of this person alone has in a corpus of some hundred documents."""
_BEST = 5
_NUMBER = 6
"""Figures of a number from which on it may stand without its beginning."""


@dataclass(slots=True)
class SearchState:
    """One search over an index: what is sure so far, and what it shows of the person."""

    index: CorpusIndex
    person: SearchedPerson
    shapes: tuple[NameShape, ...]
    mentions: dict[int, tuple[NameMention, NameShape]] = field(default_factory=dict)
    sure: set[int] = field(default_factory=set)
    other: set[int] = field(default_factory=set)
    """Exact mentions that speak of a namesake."""
    within: Counter[str] = field(default_factory=Counter)
    known: dict[str, set[str]] = field(default_factory=dict)
    """Values of the sure documents for relations of which a person has one."""

    @property
    def shape(self) -> NameShape:
        """The shape of the name itself."""
        return self.shapes[0]

    def is_name(self, value: str) -> bool:
        """Tell whether a value is made of the person's own name."""
        parts = {part for shape in self.shapes for part in shape.parts}
        return all(word in parts or word.rstrip("s") in parts for word in value.split())

    def learn(self, sure: Iterable[int]) -> None:
        """Take documents for sure, and count their values."""
        self.sure = set(sure)
        self.within = Counter(
            value
            for number in self.sure
            for value in self.index.values[number]
            if not self.is_name(value)
        )
        self.known = {}
        for number in self.sure:
            for relation, values in single_values(self, number).items():
                self.known.setdefault(relation, set()).update(values)

    def worth(self, value: str, number: int) -> float:
        """Return the nats by which a value speaks for the person, one document not counted."""
        own = number in self.sure
        inside = self.within[value] - own
        if inside <= 0:
            return 0.0
        outside = self.index.frequency[value] - self.within[value] - (not own)
        sure, others = len(self.sure) - own, len(self.index.documents) - len(self.sure) - (not own)
        share = math.log((inside + 0.5) / (sure + 1))
        return share - math.log((max(0, outside) + 0.5) / (max(0, others) + 1))

    def best(self, number: int) -> list[tuple[float, str]]:
        """Return the values of a document that speak for the person, best first."""
        found = ((self.worth(value, number), value) for value in self.index.values[number])
        return sorted(((nats, value) for nats, value in found if nats >= WORTH), reverse=True)

    def support(self, number: int) -> float:
        """Return the support of a document, nats."""
        return sum(nats for nats, _ in self.best(number)[:_BEST])


def single_values(state: SearchState, number: int) -> dict[str, set[str]]:
    """Return what a document gives for relations of which a person has one value."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for fact in stated_facts(state.index.documents[number], about=state.person.name):
        words = [word.folded for word in words_of(fact.subject.removesuffix("'s"))]
        if is_unspaced(state.shape.parts) and tuple(words) != state.shape.parts:
            continue
        last = words[-1] if words else ""
        near = edits_between(last, state.shape.last) is not None or last in state.shape.parts
        if fact.relation in SINGLE and near:
            found[fact.relation] |= comparable_values(fact.key_answer)
    return found


def comparable_values(text: str) -> set[str]:
    """Return a value as it is compared: its dates, whatever the language, or all of it, folded."""
    return dates_in(text) or {re.sub(r"\W", "", fold(text))}


def contradictions(state: SearchState, number: int) -> int:
    """Count the relations of which a document gives another value than the sure documents."""
    sure = number in state.sure
    return 0 if sure else len(differing(single_values(state, number), state.known))


def differing(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> list[str]:
    """Return the relations of which two have no value in common, in the alphabet's order."""
    return sorted(
        relation
        for relation in one.keys() & other.keys()
        if not any(about_same(a, b) for a in one[relation] for b in other[relation])
    )


def about_same(one: str, other: str) -> bool:
    """Tell whether two values may be one, misspelt, shortened or with a word more.

    Dates, telephone numbers and codes are one only with the same figures; a long number may lack
    those at its beginning, such as the code of a country.

    Example:
        >>> about_same("1962-03-08", "1962-03-18"), about_same("475557233", "5557233")
        (False, True)
        >>> about_same("corvane", "corvaneoptics"), about_same("5557233", "5557238")
        (True, False)
    """
    short, long = sorted((_figures(one), _figures(other)), key=len)
    if short and short != long:
        plain = one.isdigit() and other.isdigit()
        return plain and len(short) >= _NUMBER and long.endswith(short)
    return one in other or other in one or edits_between(one, other) is not None


def _figures(text: str) -> str:
    return "".join(filter(str.isdigit, text))
