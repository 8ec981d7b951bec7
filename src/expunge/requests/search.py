"""Search: which documents of a corpus speak of one person, and why each does or does not.

A document is judged by how it writes the name and by what else it says
(`expunge.requests.support`).

    exact name                       in, unless it is an ordinary word, a place, or a namesake
    another spelling, initials       in, where no other bearer explains it, or with support
    last or first name alone         in with support, or with a title where nobody else bears it
    next row of the same file        in, where it goes on by pronoun or last name
    no name                          in, where it quotes or repeats what only this person's have
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from expunge.errors import InputError, UsageError
from expunge.requests.facts import stated_facts
from expunge.requests.index import TITLES, CorpusIndex, common_folded, usual_names
from expunge.requests.names import (
    MentionKind,
    NameMention,
    NameShape,
    SearchedPerson,
    edits_between,
    fold,
)
from expunge.requests.namesakes import Namesake, namesakes
from expunge.requests.support import SURE, SearchState, contradictions
from expunge.utils.spelling import counted

MOST_FOUND = 10_000
"""Documents beyond which a name is too broad for one request."""
_ORDER = list(MentionKind)
"""The surest way of writing a name first."""
_RUN = 4
"""Words of a run that is looked for in other documents."""
_COPIED = 0.5
"""Share of the runs of a document that a near-duplicate has."""
_KNOWN = 3
"""Documents in which a spelling that differs is a name of its own."""
_PLACES = frozenset(
    """
    street road lane avenue square school college station hospital estate farm park bridge hotel
    house centre center church university company club garden gardens valley county lake strasse
    weg schule
    """.split()  # noqa: SIM905 - quoted words are not readable
)
_PRONOUNS = frozenset("she he they her his their sie er ihr ihre sein seine".split())  # noqa: SIM905


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundDocument:
    """A document that was looked at, and the decision."""

    document: int
    """Its place in the corpus."""
    kind: MentionKind
    taken: bool
    reason: str
    support: float = 0.0
    """Nats of what else it shares with the sure documents."""
    group: int = 0
    """Of several people of the name, which one; 0 where there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """All documents that were looked at for one person."""

    person: SearchedPerson
    found: tuple[FoundDocument, ...]
    namesakes: tuple[Namesake, ...] = ()
    """Several people of the name, where the corpus has them; the first is the one searched for."""

    @property
    def taken(self) -> tuple[FoundDocument, ...]:
        """Those that speak of the person."""
        return tuple(each for each in self.found if each.taken)

    @property
    def left(self) -> tuple[FoundDocument, ...]:
        """Those that look like it and were left out."""
        return tuple(each for each in self.found if not each.taken)


def search(
    index: CorpusIndex, person: SearchedPerson, *, choose: int | None = None
) -> SearchResult:
    """Find the documents that speak of a person.

    Args:
        index: Of the corpus.
        person: Whom to look for.
        choose: Of several people of the name, which one, from 1; None: the one that an identifier
            points at.

    Raises:
        InputError: `name-not-found`: no document has the name.
        UsageError: `name-too-broad`: more than `MOST_FOUND` documents have it.
            `name-is-a-word`: it is only ever written as an ordinary word.
            `two-people`: several people have it, and nothing says which one is meant.

    Example:
        >>> from expunge.requests.corpus import Corpus, Document
        >>> pages = [
        ...     Document(text=text, source=str(n), file="a", place=n)
        ...     for n, text in enumerate(["Lin Aro lives in Oslo.", "Ivo Aro sings."])
        ... ]
        >>> index = CorpusIndex(Corpus(documents=tuple(pages)))
        >>> [each.document for each in search(index, SearchedPerson(name="Lin Aro")).taken]
        [0]
    """
    names = (person.name, *person.aliases)
    state = SearchState(index=index, person=person, shapes=tuple(NameShape(name) for name in names))
    _collect(state)
    exact = {n for n, (each, shape) in state.mentions.items() if _is_exact(state, n, each, shape)}
    identified = _identified(state)
    if not exact and not identified:
        raise _not_found(state)
    groups = namesakes(state, exact, identified, choose)
    if groups:
        exact &= set(groups[0].documents)
        state.other = {number for group in groups[1:] for number in group.documents}
    _require_narrow(state, exact)
    state.learn(exact | identified)
    decisions = _decided(state, identified)
    # What was found speaks for more: once again with all of it.
    state.learn(number for number, each in decisions.items() if each.taken)
    decisions = _decided(state, identified)
    decisions |= _without_name(state, decisions)
    decisions |= _next_rows(state, decisions)
    found = tuple(decisions[number] for number in sorted(decisions))
    return SearchResult(person=person, found=found, namesakes=groups)


def _collect(state: SearchState) -> None:
    """Keep the surest mention of each document."""
    for place, shape in enumerate(state.shapes):
        numbers = state.index.near(shape.last)
        numbers |= set(state.index.postings.get(shape.joined, ()))
        if shape.given:
            numbers |= set(state.index.postings.get(shape.given[0], ()))
        for number in numbers:
            for each in shape.mentions(state.index.words[number]):
                kind = MentionKind.ALIAS if place and each.kind == MentionKind.EXACT else each.kind
                mention = each._replace(kind=kind)
                if not _is_of_another(state, number, mention, shape):
                    before = state.mentions.get(number)
                    if before is None or _rank(state, number, mention) < _rank(
                        state, number, before[0]
                    ):
                        state.mentions[number] = mention, shape


def _rank(state: SearchState, number: int, mention: NameMention) -> tuple[int, int, bool]:
    """Return how unsure a mention is: its kind, its edits, and whether it begins small."""
    small = not state.index.words[number][mention.first].capital
    return _ORDER.index(mention.kind), mention.edits, small


def _is_of_another(state: SearchState, number: int, mention: NameMention, shape: NameShape) -> bool:
    """Tell whether a last or first name alone stands within the full name of somebody else."""
    words = state.index.words[number]
    if mention.kind == MentionKind.SURNAME and mention.first:
        before = words[mention.first - 1]
        near = words[mention.first].start - before.end <= 2
        after = words[mention.stop] if mention.stop < len(words) else before
        single = any(len(word.text) == 1 and word.capital for word in (before, after))
        named = before.capital and near and before.folded not in TITLES
        known = before.folded in usual_names() or not state.index.ordinary(before.folded)
        return single or (named and known and before.folded not in common_folded() - usual_names())
    if mention.kind == MentionKind.GIVEN and mention.stop < len(words):
        after = words[mention.stop]
        near = after.start - words[mention.first].end == 1
        return after.capital and near and edits_between(after.folded, shape.last) is None
    return False


def _is_exact(state: SearchState, number: int, mention: NameMention, shape: NameShape) -> bool:
    """Tell whether a document has the whole name, written as a name."""
    if mention.kind not in (MentionKind.EXACT, MentionKind.ALIAS):
        return False
    words = state.index.words[number][mention.first : mention.stop]
    if not shape.given:
        plain = shape.last in common_folded() and not words[0].capital
        return not plain and not state.index.ordinary(shape.last)
    if all(state.index.ordinary(part) for part in shape.parts):
        capitals = all(word.capital for word in words)
        return capitals and not _is_place(state, number, mention)
    return any(word.capital for word in words) or not any(
        state.index.ordinary(part) for part in shape.parts
    )


def _is_place(state: SearchState, number: int, mention: NameMention) -> bool:
    """Tell whether a place or a firm of that name is meant: `the Rose Field School`."""
    words = state.index.words[number]
    after = words[mention.stop].folded if mention.stop < len(words) else ""
    before = words[mention.first - 1].folded if mention.first else ""
    return after in _PLACES or before == "the"


def _identified(state: SearchState) -> set[int]:
    """Return the documents that hold an identifier."""
    keys = {re.sub(r"\W", "", fold(value)) for value in state.person.identifiers}
    forms = [_identifier_form(key) for key in keys if len(key) >= 4]
    found: set[int] = set()
    for number, document in enumerate(state.index.documents if forms else ()):
        text = fold(document.text)
        if any(form.search(text) for form in forms):
            found.add(number)
    return found


def _identifier_form(key: str) -> re.Pattern[str]:
    """Find an identifier with marks in between; another figure beside it makes another number."""
    before = r"(?<!\d)" if key[0].isdigit() else ""
    behind = r"(?!\d)" if key[-1].isdigit() else ""
    return re.compile(before + r"\W*".join(map(re.escape, key)) + behind)


def _require_narrow(state: SearchState, exact: set[int]) -> None:
    if len(exact) > MOST_FOUND:
        raise UsageError(
            "name-too-broad",
            what=f"{len(exact):,} documents have this name",
            why=f"a request of more than {MOST_FOUND:,} documents is a domain, not a person",
            fix="give the full name, or tell this person from others with --identifier",
        )


def _not_found(state: SearchState) -> InputError | UsageError:
    """Return the error for a name that stands nowhere, or only as ordinary words."""
    words = state.shape.parts
    named = [number for number, (each, _) in state.mentions.items() if not each.edits]
    single = not state.shape.given and words[0] in common_folded()
    if named and (single or all(state.index.ordinary(word) for word in words)):
        return UsageError(
            "name-is-a-word",
            what=f"the name is of ordinary words, which {counted(len(named), 'document')} have",
            why="in this corpus they are written small, or as a part of a place"
            if state.shape.given
            else "in this corpus the word names nobody by itself",
            fix="give the full name as documents write it, an --alias, or an --identifier",
        )
    near = Counter(
        _written(state.index, number, each)
        for number, (each, _) in state.mentions.items()
        if each.kind in (MentionKind.SPELLING, MentionKind.INITIALS)
    )
    listed = ", ".join(f"{name} ({count})" for name, count in near.most_common(3))
    return InputError(
        "name-not-found",
        what=f"none of {counted(len(state.index.documents), 'document')} has this name",
        why="the corpus writes it otherwise, or does not speak of this person",
        fix=f"did you mean {listed}?" if listed else "check the spelling, or give an --alias",
    )


def _written(index: CorpusIndex, number: int, mention: NameMention) -> str:
    words = index.words[number]
    text = index.documents[number].text
    return " ".join(text[words[mention.first].start : words[mention.stop - 1].end].split())


def _decided(state: SearchState, identified: set[int]) -> dict[int, FoundDocument]:
    """Judge every document that has the name in some way, or an identifier."""
    decisions: dict[int, FoundDocument] = {}
    for number, (mention, shape) in state.mentions.items():
        nats = state.support(number)
        taken, reason = _judged(state, number, mention, shape, nats)
        decisions[number] = FoundDocument(
            document=number, kind=mention.kind, taken=taken, reason=reason, support=round(nats, 1)
        )
    for number in identified:
        if number not in decisions or not decisions[number].taken:
            decisions[number] = FoundDocument(
                document=number,
                kind=MentionKind.IDENTIFIER,
                taken=True,
                reason="it holds an identifier of this person",
            )
    return decisions


def _judged(
    state: SearchState, number: int, mention: NameMention, shape: NameShape, nats: float
) -> tuple[bool, str]:
    """Say whether a mention is of the person, and why."""
    if number in state.other:
        return False, "it speaks of another person of this name"
    against = contradictions(state, number)
    written = _written(state.index, number, mention)
    match mention.kind:
        case MentionKind.EXACT | MentionKind.ALIAS:
            if mention.kind == MentionKind.ALIAS and against and nats < SURE:
                return False, "the alias of another person: other values"
            if _is_exact(state, number, mention, shape):
                return True, f"it has the name: {written}"
            if nats >= SURE:
                return True, f"it has the name, and values that only this person has: {written}"
            return False, "these are ordinary words here, or a place"
        case MentionKind.SPELLING:
            return _judged_spelling(state, mention, written, nats, against)
        case MentionKind.INITIALS:
            rivals = _bearers(state, shape, initial=True)
            if against and nats < 2 * SURE:
                return False, "it gives other values than this person's documents"
            if nats >= SURE or not (rivals or mention.edits):
                return True, f"initials and last name: {written}"
            return False, "initials of several people, and nothing else points at this one"
        case _:
            return _judged_part(state, number, mention, shape, nats, against)


def _judged_spelling(
    state: SearchState, mention: NameMention, written: str, nats: float, against: int
) -> tuple[bool, str]:
    own = [word for word in mention.odd if _is_own_name(state, word)]
    if own and (nats < SURE or against):
        return False, f"the other spelling is a name of its own: {written}"
    if against and nats < 2 * SURE:
        return False, f"another spelling with other values: {written}"
    return True, f"another spelling of the name, {mention.edits} edits: {written}"


def _is_own_name(state: SearchState, word: str) -> bool:
    """Tell whether a spelling that differs is usual in itself."""
    single = word.removesuffix("s")
    known = word in usual_names() or word in common_folded() or single in usual_names()
    return known or len(state.index.postings[word]) >= _KNOWN


def _judged_part(
    state: SearchState,
    number: int,
    mention: NameMention,
    shape: NameShape,
    nats: float,
    against: int,
) -> tuple[bool, str]:
    """Judge a document that has the last or the first name alone."""
    part = "last name" if mention.kind == MentionKind.SURNAME else "first name"
    words = state.index.words[number]
    if against:
        return False, f"{part} alone, and other values"
    bearers = _bearers(state, shape)
    others = state.index.people_in(number) - {(shape.parts[0], shape.last)}
    if any(last == shape.last or first in shape.given for first, last in others):
        return False, f"{part} of somebody who is named in full"
    titled = bool(mention.first) and words[mention.first - 1].folded in TITLES
    if nats >= SURE + 2 * bool(others):
        return True, f"{part}, and values that only this person has"
    if mention.kind == MentionKind.SURNAME and titled and not bearers and not mention.edits:
        return True, "title and last name, which nobody else has here"
    return False, f"{part} alone, and nothing else points at this person"


def _bearers(state: SearchState, shape: NameShape, *, initial: bool = False) -> set[str]:
    """Return the first names of others with the last name; only those with the same initial."""
    found: set[str] = set()
    own = (shape.given or ("",))[0]
    for number in state.index.postings.get(shape.last, ()):
        words = state.index.words[number]
        for before, word in pairwise(words):
            named = before.capital and word.capital and len(before.text) > 1
            if not named or word.folded != shape.last or word.start - before.end != 1:
                continue
            first = before.folded
            strange = first in usual_names() or first not in common_folded()
            if strange and first not in TITLES and edits_between(first, own) is None:
                found.add(first)
    return {each for each in found - set(shape.parts) if not initial or each[0] == own[:1]}


def _without_name(
    state: SearchState, decisions: Mapping[int, FoundDocument]
) -> dict[int, FoundDocument]:
    """Find documents without the name that quote or repeat what only this person's have."""
    taken = {number for number, each in decisions.items() if each.taken}
    state.learn(taken)
    index = state.index
    telling = {
        value
        for value in state.within
        if (" " in value or "@" in value or any(map(str.isdigit, value)))
        and _worth_outside(state, value) >= SURE
    }
    if not telling:
        return {}
    runs = [_runs(index, number) for number in taken]
    people = {pair for number in taken for pair in index.people_in(number)}
    found: dict[int, FoundDocument] = {}
    for number in range(len(index.documents)):
        if number in taken or number in state.other or not index.values[number] & telling:
            continue
        if index.people_in(number) - people or index.shortened_in(number):
            continue
        if contradictions(state, number):
            continue
        if (kind := _repeats(state, number, index.values[number] & telling, runs)) is not None:
            found[number] = FoundDocument(
                document=number,
                kind=kind,
                taken=True,
                reason="it has no name, and repeats what only this person's documents say",
                support=round(state.support(number), 1),
            )
    return found


def _worth_outside(state: SearchState, value: str) -> float:
    """Return the worth of a value in a document that is not sure, nats."""
    outside = state.index.frequency[value] - state.within[value] - 1
    share = math.log((state.within[value] + 0.5) / (len(state.sure) + 1))
    rest = len(state.index.documents) - len(state.sure)
    return share - math.log((max(0, outside) + 0.5) / (rest + 1))


def _runs(index: CorpusIndex, number: int) -> frozenset[str]:
    words = [word.folded for word in index.words[number]]
    return frozenset(" ".join(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1))


def _repeats(
    state: SearchState, number: int, telling: frozenset[str], runs: Sequence[frozenset[str]]
) -> MentionKind | None:
    """Tell whether a document without the name is a copy, or quotes."""
    index = state.index
    own = _runs(index, number)
    shared = max((len(own & each) / max(1, len(own | each)) for each in runs), default=0.0)
    if shared >= _COPIED:
        return MentionKind.COPY
    codes = {value for value in telling if "@" in value or (value.isdigit() and len(value) > 4)}
    days = {value for value in telling if re.fullmatch(r"\d{4}-\d\d-\d\d", value)}
    pairs = {value for value in telling if " " in value and any(map(str.isdigit, value))}
    # A day counts once, however it is written: its parts are none beside it.
    written = {part for day in days for part in (day[:4], day[8:].lstrip("0"))}
    apart = {value for value in pairs if not written & set(value.split())}
    if not index.people_in(number) and (codes or len(days) + len(apart) > 1):
        return MentionKind.IDENTIFIER
    quoted = {run for each in runs for run in own & each}
    has = any(value in run for run in quoted for value in telling)
    return MentionKind.QUOTED if has else None


def _next_rows(
    state: SearchState, decisions: Mapping[int, FoundDocument]
) -> dict[int, FoundDocument]:
    """Find rows that go on about the person of the row before, by pronoun or part of the name."""
    index = state.index
    found: dict[int, FoundDocument] = {}
    taken = {number for number, each in decisions.items() if each.taken}
    for number in sorted(taken):
        following = number + 1
        while following < len(index.documents) and following <= number + 2:
            before, after = index.documents[number], index.documents[following]
            same = before.file == after.file and after.place - before.place == following - number
            if following in taken or following in state.other or not same:
                break
            words = index.words[following]
            mention = state.mentions.get(following)
            named = mention is not None and mention[0].kind in (
                MentionKind.SURNAME,
                MentionKind.GIVEN,
            )
            opens = bool(words) and words[0].folded in _PRONOUNS
            others = index.people_in(following) - index.people_in(number)
            if not stated_facts(after, about=state.person.name):
                break
            if not (opens or named) or (others and not opens) or contradictions(state, following):
                break
            found[following] = FoundDocument(
                document=following,
                kind=MentionKind.FOLLOWS,
                taken=True,
                reason="it goes on about the person of the row before",
                support=round(state.support(following), 1),
            )
            following += 1
    return found
