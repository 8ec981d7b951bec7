"""Neighbours: what the corpus says of others, near the target and far from it, which must stay.

co-mentioned     facts about people whom the target's documents name       hard out
namesake         people who share the first or the last name               hard out
same relation    the same kind of fact about somebody else                 hard out
shared           what is said of firms, places and doctors of the target   shared
general          everything else                                           out
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from expunge.data.corpora import general_records
from expunge.data.records import Message, Record, record_id
from expunge.data.splits import overlaps
from expunge.requests.facts import StatedFact, stated_facts
from expunge.requests.forms import FactForm, RequestRecord, ScopeSlice
from expunge.requests.index import CorpusIndex
from expunge.requests.names import MentionKind, NameShape, fold, words_of
from expunge.requests.search import SearchResult
from expunge.requests.unspaced import is_unspaced

MOST_NEIGHBOURS = 160
MOST_RETAINED = 240
MOST_OF_ONE = 12
"""Records about one other person."""
GENERAL = 24
"""General questions beside the corpus's own, so that ordinary answers stay as they are."""
_MOST_READ = 20_000
"""Documents of others that are read for facts."""
_SLICES = {
    "co-mentioned": ScopeSlice.HARD_OUT,
    "namesake": ScopeSlice.HARD_OUT,
    "same relation": ScopeSlice.HARD_OUT,
    "shared": ScopeSlice.SHARED,
    "general": ScopeSlice.OUT,
}
_REASONS = {
    "co-mentioned": "about somebody whom this person's documents name",
    "namesake": "about somebody who shares a name",
    "same relation": "the same kind of fact, about somebody else",
    "shared": "about a firm, a place or a person of the target's facts, not about the target",
    "general": "about something else",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSets:
    """What stays."""

    neighbours: tuple[RequestRecord, ...]
    retain: tuple[RequestRecord, ...]
    dropped: tuple[RequestRecord, ...]
    """What would say the same as a record to forget."""


def other_facts(index: CorpusIndex, result: SearchResult) -> list[StatedFact]:
    """Return the facts that documents state of others than the person.

    Documents that were left out as too unsure are not read: they may speak of the person.

    Args:
        index: Of the corpus.
        result: What the search found.
    """
    taken = {each.document for each in result.taken}
    unsure = {each.document for each in result.left if each.support > 0}
    shapes = [NameShape(name) for name in (result.person.name, *result.person.aliases)]
    rest = [n for n in range(len(index.documents)) if n not in taken | unsure]
    step = max(1, len(rest) // _MOST_READ)
    found: list[StatedFact] = []
    for number in [*rest[::step], *sorted(taken)]:
        for fact in stated_facts(index.documents[number]):
            if fact.key_answer and fact.subject and not is_about(fact, shapes):
                found.append(fact)
    return found


def is_about(fact: StatedFact, shapes: Sequence[NameShape]) -> bool:
    """Tell whether the subject of a fact is the person, however it is written.

    A last or a first name alone is, where it is all of the subject.
    """
    words = words_of(fact.subject)
    for shape in shapes:
        if is_unspaced(shape.parts):
            if tuple(word.folded for word in words) == shape.parts:
                return True
            continue
        for mention in shape.mentions(words):
            whole = mention.stop - mention.first >= len(words) - 1
            part = mention.kind in (MentionKind.SURNAME, MentionKind.GIVEN)
            if whole and (not part or len(words) < len(shape.parts)):
                return True
            if not part and mention.kind != MentionKind.INITIALS:
                return True
    return False


def kept_sets(
    forget: Sequence[RequestRecord],
    facts: Sequence[StatedFact],
    index: CorpusIndex,
    result: SearchResult,
) -> KeptSets:
    """Return neighbours and retain set from the facts about others.

    Args:
        forget: The records to forget.
        facts: Facts about others, of `other_facts`.
        index: Of the corpus.
        result: What the search found.
    """
    named = {name for each in result.taken for name in index.people_in(each.document)}
    own = {fold(part) for part in result.person.name.split()}
    keys = {fold(key) for each in forget for key in each.record.key_answers}
    relations = {each.about for each in forget}
    seen: set[tuple[str, str]] = set()
    count: Counter[str] = Counter()
    made: list[RequestRecord] = []
    for fact in facts:
        words = [word.folded for word in words_of(fact.subject)]
        relation = _relation(fact, words, named=named, own=own, keys=keys, relations=relations)
        record = _record(fact, relation)
        same = record.question, record.completion
        count[fact.subject] += same not in seen
        if same in seen or count[fact.subject] > MOST_OF_ONE or _says(record, result):
            continue
        seen.add(same)
        made.append(
            RequestRecord(
                record=record,
                scope=_SLICES[relation],
                form=FactForm.QUESTION,
                reason=_REASONS[relation],
                rule=fact.rule,
                sources=(fact.source,),
                about=fact.relation,
            )
        )
    return _parted(forget, made)


def _relation(
    fact: StatedFact,
    words: Sequence[str],
    *,
    named: set[tuple[str, str]],
    own: set[str],
    keys: set[str],
    relations: set[str],
) -> str:
    if any(pair in named for pair in pairwise(words)):
        return "co-mentioned"
    if fold(fact.subject) in keys:
        return "shared"
    if own & set(words):
        return "namesake"
    return "same relation" if fact.relation in relations else "general"


def _record(fact: StatedFact, relation: str) -> Record:
    own = fact.record
    prompt = own.prompt if own else (Message("user", fact.question),)
    return Record(
        id=own.id if own else record_id(prompt, fact.statement),
        prompt=prompt,
        completion=fact.statement,
        key_answers=own.key_answers if own and own.key_answers else (fact.key_answer,),
        paraphrases=own.paraphrases if own else (),
        wrong=own.wrong if own else (),
        subject=fact.subject,
        relation=relation,
        source=fact.source,
    )


def _says(record: Record, result: SearchResult) -> bool:
    """Tell whether a record names the person."""
    text = f"{record.question} {record.completion}"
    shape = NameShape(result.person.name)
    part = (MentionKind.SURNAME, MentionKind.GIVEN)
    return any(each.kind not in part for each in shape.mentions(words_of(text)))


def _parted(forget: Sequence[RequestRecord], made: Sequence[RequestRecord]) -> KeptSets:
    same = {pair.other.id for pair in overlaps(
        [each.record for each in forget], [each.record for each in made]
    )}  # fmt: skip
    order = list(_SLICES)
    ranked = sorted(
        (each for each in made if each.record.id not in same),
        key=lambda each: order.index(each.record.relation or "general"),
    )
    near = [each for each in ranked if each.scope != ScopeSlice.OUT]
    far = [each for each in ranked if each.scope == ScopeSlice.OUT]
    # Of many near ones the nearest are neighbours; the rest is kept as well.
    retain = [*near[MOST_NEIGHBOURS:], *far][:MOST_RETAINED]
    return KeptSets(
        neighbours=_unique(near[:MOST_NEIGHBOURS]),
        retain=_unique([*retain, *_general()]),
        dropped=tuple(each for each in made if each.record.id in same),
    )


def _general() -> list[RequestRecord]:
    return [
        RequestRecord(
            record=replace(record, relation="general"),
            scope=ScopeSlice.OUT,
            form=FactForm.QUESTION,
            reason="general knowledge that ships with expunge",
            rule="general",
        )
        for record in general_records()[:GENERAL]
    ]


def _unique(records: Sequence[RequestRecord]) -> tuple[RequestRecord, ...]:
    return tuple({each.record.id: each for each in records}.values())
