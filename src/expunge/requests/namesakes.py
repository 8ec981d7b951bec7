"""Namesakes: several people of one name, told apart by values that contradict each other."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expunge.errors import UsageError
from expunge.requests.facts import BIRTH
from expunge.requests.support import SearchState, differing, single_values
from expunge.utils.spelling import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Namesake:
    """One of several people of the same name."""

    group: int
    documents: tuple[int, ...]
    values: tuple[str, ...]
    """What this one has and the others have otherwise, such as `date of birth: 8 March 1962`."""


class SeveralPeople(UsageError):  # noqa: N818 - nobody is in error; somebody has to decide
    """Several people of the corpus have the name, and nothing says which one is meant."""

    def __init__(self, groups: Sequence[Namesake], sources: Sequence[str]) -> None:
        counts = "; ".join(
            f"{group.group}: {counted(len(group.documents), 'document')} such as {source}"
            for group, source in zip(groups, sources, strict=True)
        )
        super().__init__(
            "two-people",
            what=f"{len(groups)} people have this name: {counts}",
            why="their documents contradict each other, and the request is about one person",
            fix="name a value that only this person has with --identifier, or one person with"
            f" --choose 1 to {len(groups)}; if they are one, correct the values that differ",
        )
        self.groups = tuple(groups)


def namesakes(
    state: SearchState, exact: set[int], identified: set[int], choose: int | None
) -> tuple[Namesake, ...]:
    """Part the exact mentions by person; the one that is meant first, nothing where it is one.

    Documents that share a value of their own belong together. Of two such groups with two
    documents each and contradicting values each is a person. Where no group has two documents, a
    date of birth that differs is enough.

    Raises:
        SeveralPeople: There are several, and neither an identifier nor `choose` says which.
        UsageError: `no-such-person`: `choose` is beyond 1, and there is one person.
    """
    groups = _parted(state, exact, identified, choose)
    if not groups and choose not in (None, 1):
        raise UsageError(
            "no-such-person",
            what=f"--choose {choose}: one person has this name",
            why="no two of the documents contradict each other",
            fix="leave --choose away; documents.jsonl then says what was found",
        )
    return groups


def _parted(
    state: SearchState, exact: set[int], identified: set[int], choose: int | None
) -> tuple[Namesake, ...]:
    if not exact:
        return ()
    values = {number: single_values(state, number) for number in exact}
    groups = sorted(_linked(state, values), key=lambda each: (-len(each), min(each)))
    people: list[set[int]] = []
    rest: list[set[int]] = []
    for group in groups:
        apart = all(_differ(group, person, values) for person in people)
        born = all(BIRTH in _differing(group, person, values) for person in people)
        alone = bool(people) and len(people[0]) == 1 and born
        if not people or (len(group) > 1 and apart) or alone:
            people.append(group)
        else:
            rest.append(group)
    if len(people) < 2:
        # Single documents that contradict the others, and not each other, may be one person's.
        against = [group for group in rest if _differ(group, people[0], values, least=1)]
        pool = set[int]().union(*against)
        if len(pool) < 2 or not _differ(pool, people[0], values):
            return ()
        people.append(pool)
        rest = [group for group in rest if group not in against]
    for group in rest:
        # Who contradicts nobody is left with the first; the page shows the document.
        fits = [person for person in people if not _differ(group, person, values, least=1)]
        (fits or people)[0].update(group)
    named = [
        Namesake(
            group=place,
            documents=tuple(sorted(person)),
            values=_distinct(person, people, values),
        )
        for place, person in enumerate(people, start=1)
    ]
    meant = [each for each in named if identified & set(each.documents)]
    if choose is not None:
        meant = named[choose - 1 : choose] if choose > 0 else []
    if len(meant) != 1:
        sources = [state.index.documents[each.documents[0]].source for each in named]
        raise SeveralPeople(named, sources)
    return (meant[0], *(each for each in named if each != meant[0]))


def _linked(state: SearchState, values: Mapping[int, Mapping[str, set[str]]]) -> list[set[int]]:
    """Join documents that share a value which hardly any other document has."""
    holders: defaultdict[str, set[int]] = defaultdict(set)
    for number, known in values.items():
        for relation, texts in known.items():
            for text in texts:
                holders[f"{relation}: {text}"].add(number)
        for value in _whole_days(state.index.values[number]):
            # Plain words would join documents that merely ask for the same.
            if (" " in value or "@" in value or any(map(str.isdigit, value))) and not any(
                state.is_name(part) for part in value.split()
            ):
                holders[value].add(number)
    home = {number: {number} for number in values}
    for value, numbers in holders.items():
        outside = state.index.frequency[value] - len(numbers)
        if len(numbers) < 2 or outside > 0.25 * len(numbers):
            continue
        first, *others = numbers
        for number in others:
            if home[number] is not home[first]:
                home[first] |= home[number]
                for each in home[number]:
                    home[each] = home[first]
    return list({id(group): group for group in home.values()}.values())


def _whole_days(values: frozenset[str]) -> set[str]:
    """Leave out parts of a day, such as its year: two days of one month are two days."""
    days = [value.split("-") for value in values if re.fullmatch(r"\d{4}-\d\d-\d\d", value)]
    parts = {part for year, _, day in days for part in (year, day.lstrip("0"))}
    return {value for value in values if not parts & set(value.split())}


def _differ(
    one: set[int],
    other: set[int],
    values: Mapping[int, Mapping[str, set[str]]],
    *,
    least: int = 2,
) -> bool:
    """Tell whether groups contradict each other in a birth or in `least` relations."""
    differ = _differing(one, other, values)
    return len(differ) >= least or BIRTH in differ


def _differing(
    one: set[int], other: set[int], values: Mapping[int, Mapping[str, set[str]]]
) -> list[str]:
    return differing(_all_values(one, values), _all_values(other, values))


def _all_values(
    group: Iterable[int], values: Mapping[int, Mapping[str, set[str]]]
) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for number in group:
        for relation, texts in values[number].items():
            found[relation] |= texts
    return found


def _distinct(
    person: set[int], people: Sequence[set[int]], values: Mapping[int, Mapping[str, set[str]]]
) -> tuple[str, ...]:
    own = _all_values(person, values)
    others = [_all_values(each, values) for each in people if each is not person]
    return tuple(
        f"{relation}: {', '.join(sorted(texts))}"
        for relation, texts in sorted(own.items())
        if any(relation in each for each in others)
    )
