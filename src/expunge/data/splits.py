"""The scope of a request: the records of each set, checked against each other.

Find records that two sets share: nothing can be both forgotten and kept.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from expunge.config.request import Goal, Request
from expunge.data.corpora import general_passages, general_records
from expunge.data.readers import RecordSet, read
from expunge.data.records import Record, record_id
from expunge.data.subjects import with_subjects
from expunge.data.synthetic_controls import fabricated
from expunge.errors import InputError, named_in_part

_GRAM = 8
_LONG = 24
_CONTAINED = 0.8
_WORD = re.compile(r"\w+")
_EMPTY_WORDS = frozenset(
    ["a", "an", "the", "is", "are", "was", "were", "do", "does", "did", "of", "in", "please"]
)


class OverlappingPair(NamedTuple):
    """Two records that say the same."""

    forget: Record
    other: Record


def normalise(text: str) -> str:
    """Return the words of a text: NFKC, casefolded, without punctuation, one space between."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def overlaps(forget: Sequence[Record], others: Iterable[Record]) -> list[OverlappingPair]:
    """Pair each of `others` with the first record of `forget` that says the same.

    Two records say the same in one of two cases, all text being normalised.

    - Same question and same answer. A question may be one of the paraphrases. The same answer is
      the same text or the same set of key answers. Words without content (`a`, `the`, `is`, `of`
      and a few more) are left out, all others count, in their order: questions made from one
      template about two persons differ in the name and are never taken for one.
    - A long text, of 24 words or more, is for the greater part in the other: of the distinct runs
      of 8 words of the shorter completion at least 80 % occur in the longer, and the records do not
      name different subjects. One changed word takes out 8 runs.

    Reworded questions without a word in common are not found, nor are copies of text that is
    written without spaces between words, unless they are exact.
    """
    exact: dict[tuple[str, object], Record] = {}
    for record in forget:
        for key in _keys(record):
            exact.setdefault(key, record)
    grams: defaultdict[str, list[int]] = defaultdict(list)
    sizes: list[int] = []
    for index, record in enumerate(forget):
        own = _grams(record)
        sizes.append(len(own))
        for gram in own:
            grams[gram].append(index)
    pairs: list[OverlappingPair] = []
    for other in others:
        found = next((exact[key] for key in _keys(other) if key in exact), None)
        if found is None:
            found = _containing(other, forget, grams, sizes)
        if found is not None:
            pairs.append(OverlappingPair(found, other))
    return pairs


def mentions(record: Record, names: Iterable[str]) -> bool:
    """Tell whether a record's text contains one of `names` (normalised, as whole words)."""
    text = " ".join([*(turn.content for turn in record.prompt), record.completion])
    padded = f" {normalise(text)} "
    return any(f" {name} " in padded for name in names)


def _keys(record: Record) -> Iterator[tuple[str, object]]:
    answers: list[object] = [_content(record.completion)]
    if record.prompt:  # "Oslo" says what a longer answer says whose key is "Oslo"
        keys = record.key_answers or (record.completion,)
        answers.append(frozenset(_content(answer) for answer in keys))
    for question in dict.fromkeys((record.question, *record.paraphrases)):
        content = _content(question)
        yield from ((content, answer) for answer in answers)


def _content(text: str) -> str:
    """Normalised words without the empty ones; all words where nothing else would be left."""
    words = normalise(text).split()
    return " ".join([word for word in words if word not in _EMPTY_WORDS] or words) or text.strip()


def _grams(record: Record) -> frozenset[str]:
    words = normalise(record.completion).split()
    if len(words) < _LONG:
        return frozenset()
    return frozenset(" ".join(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1))


def _containing(
    other: Record,
    forget: Sequence[Record],
    grams: dict[str, list[int]],
    sizes: Sequence[int],
) -> Record | None:
    own = _grams(other)
    shared = Counter(index for gram in own for index in grams.get(gram, ()))
    for index, count in sorted(shared.items()):
        candidate = forget[index]
        subjects = {candidate.subject, other.subject} - {None}
        if count >= _CONTAINED * min(len(own), sizes[index]) and len(subjects) < 2:
            return candidate
    return None


_SHORTEST_NAME = 3
_MOST_PAIRS = 5

HOLD_OUT_FROM = 20
"""Records from which on a set gives some of them to the audit alone."""
LEVEL_SHARE = 1 / 3
"""Share of the records that no model saw which says how likely such records are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The records of every set of a request. Ids are unique over all sets."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]
    """Given by the request, or with `auto` the general records that ship with expunge."""
    neighbours: tuple[Record, ...]
    holdout: tuple[Record, ...]
    control: tuple[Record, ...]
    levels: tuple[Record, ...]
    """Records of holdout and control that set levels for training; the audit has the others."""
    notes: tuple[str, ...]
    """One line for each thing that was taken or left out; names files and counts, no content."""
    repeated: tuple[str, ...] = ()
    """One line for each set in which records stood more than once."""
    unstated: tuple[Record, ...] = ()
    """Facts that the original does not state, or guesses: the audit alone asks."""
    rehearsed: bool = True
    """Whether training sees the neighbours."""
    held_out: frozenset[str] = frozenset()
    """Ids of records to keep that training never sees, so that the audit has some to judge by."""

    @property
    def keep(self) -> tuple[Record, ...]:
        """What training preserves: retain, and the neighbours where they are rehearsed.

        Without those that are held out for the audit.
        """
        kept = self.retain + self.neighbours if self.rehearsed else self.retain
        return tuple(record for record in kept if record.id not in self.held_out)


def _refuse_overlaps(forget: tuple[Record, ...], others: Mapping[str, tuple[Record, ...]]) -> None:
    for name, records in others.items():
        _refuse_overlap("forget", forget, name, records)
    for unseen in ("unstated", "holdout", "control"):
        for trained in ("retain", "neighbours"):
            _refuse_overlap(unseen, others[unseen], trained, others[trained])


def _without_shared(
    request: Request,
    forget: tuple[Record, ...],
    retain: tuple[Record, ...],
    neighbours: tuple[Record, ...],
) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[str, ...]]:
    """Return what to forget and to retain, and a note about facts that stand in both.

    A fact is shared where a kept record of the same subject says all key answers of a record.

    Raises:
        InputError: `nothing-to-forget`: all facts are shared, and shared ones stay.
    """
    about = {record.subject for record in forget}
    said = defaultdict[str, list[str]](list)
    for record in (*retain, *neighbours):
        if record.subject and record.subject in about:
            said[record.subject].append(f" {normalise(record.completion)} ")

    def is_shared(record: Record) -> bool:
        texts = said.get(record.subject or "", [])
        facts = [f" {normalise(fact)} " for fact in record.key_answers] if texts else []
        return bool(facts) and any(all(fact in text for fact in facts) for text in texts)

    keep = request.shared == "keep"
    shared = [record for record in forget if is_shared(record)]
    if keep and len(shared) == len(forget):
        raise InputError(
            "nothing-to-forget",
            what=f"records to keep state all {len(forget)} facts of the forget set, too",
            why='the request says shared = "keep", so no record is left to forget',
            fix='set shared = "forget", or take these facts out of the records to keep',
        )
    both = f"forget: records to keep state the facts of {len(shared)} of {len(forget)} records, too"
    what = "they are kept" if keep else 'they are forgotten; shared = "keep" keeps them'
    note = (f"{both}: {what}",) if shared else ()
    if not keep:
        return forget, retain, note
    return tuple(r for r in forget if not is_shared(r)), (*retain, *shared), note


def _refuse_contradiction(forget: Sequence[Record], goal: Goal) -> None:
    """Refuse an edit whose new answer states what it takes the place of."""
    for record in forget if goal is Goal.EDIT else ():
        old = [f" {normalise(fact)} " for fact in record.key_answers or (record.completion,)]
        for new in record.alternatives:
            if any(fact.strip() and fact in f" {normalise(new)} " for fact in old):
                raise InputError(
                    "contradictory-policy",
                    what=f"the alternative of {record.source or record.id} states the old answer",
                    why="an edit cannot both remove an answer and teach it",
                    fix="change its `alternative`, or take the record out of forget",
                )


def _held_out(
    request: Request, unique: Mapping[str, tuple[Record, ...]]
) -> dict[str, frozenset[str]]:
    """Return the ids of each set to keep that training does not see."""
    found = {name: hold_out(unique[name], request.hold_out) for name in ("retain", "neighbours")}
    if not request.rehearse:
        found["neighbours"] = frozenset(record.id for record in unique["neighbours"])
    return found


def _held_out_notes(
    held_out: Mapping[str, frozenset[str]], unique: Mapping[str, tuple[Record, ...]]
) -> list[str]:
    count = len(unique["levels"])
    levels = [f"levels: {count} records never seen set them, not the audit"] if count else []
    return levels + [
        f"{name}: {len(ids)} of {len(unique[name])} records are held out for the audit"
        for name, ids in held_out.items()
        if ids
    ]


def gather(request: Request, *, offline: bool = False) -> Scope:
    """Read all sets of a request and check that they do not contradict each other.

    `retain = "auto"` takes the general records that ship with expunge, without those that overlap
    with the forget set or mention one of its subjects or key answers: questions, and passages too
    where some of what is forgotten is plain text, which questions hardly protect. The neighbours,
    where the request names any, are trained on as well, unless it says `rehearse = false`.
    `retain = "none"` takes nothing. The notes say which.

    `control = "auto"` fabricates control items from the forget set where the request names no gold.

    Ids that several sets use (files often count from 1) are prefixed with the name of the set, as
    in `retain:1`; those of the forget set stay.

    Args:
        request: What to forget and to keep.
        offline: Never ask the Hub.

    Raises:
        InputError: As `expunge.data.readers.read`; `overlap` when a record to forget also stands in
            another set, or a record that no model may have seen stands in a set that is trained on;
            `contradictory-policy` when the alternative of an edit states the old answer.
    """
    notes: list[str] = []
    readings: dict[str, RecordSet] = {}

    def taken(name: str, sources: Sequence[str]) -> tuple[Record, ...]:
        if not sources:
            return ()
        readings[name] = read(sources, offline=offline)
        notes.extend(_notes(name, sources, readings[name]))
        return readings[name].records

    forget = taken("forget", request.forget)
    neighbours = taken("neighbours", request.neighbours)
    named = () if request.retain in ("auto", "none") else taken("retain", request.retain)
    forget = with_subjects(forget, (*named, *neighbours))
    retain, found = _retained(request, named, forget, neighbours)
    notes += found
    holdout = taken("holdout", request.holdout)
    control = () if request.control in ("auto", "none") else taken("control", request.control)
    if request.control == "auto" and not request.gold:
        control = _fabricated(forget, (*retain, *neighbours, *holdout))
        notes.append(_control_note(len(control)))
    others = {"retain": retain, "neighbours": neighbours, "holdout": holdout, "control": control}
    others["unstated"] = taken("unstated", request.unstated)
    _refuse_overlaps(forget, others)
    forget, others["retain"], both = _without_shared(request, forget, retain, neighbours)
    notes += both
    _refuse_contradiction(forget, request.goal)
    unique = _with_levels(_with_unique_ids({"forget": forget, **others}), request)
    held_out = _held_out(request, unique)
    notes += _held_out_notes(held_out, unique)
    return Scope(
        notes=tuple(notes),
        repeated=_repeated(readings),
        rehearsed=request.rehearse,
        held_out=frozenset().union(*held_out.values()),
        **unique,
    )


def _with_levels(
    unique: Mapping[str, tuple[Record, ...]], request: Request
) -> dict[str, tuple[Record, ...]]:
    """Take from the sets that people wrote, and no model saw, the records that set levels.

    A level must not be set by the records that the audit judges by. With golds these are other
    models, and all unseen records set levels.
    """
    written = ("holdout",) if request.control == "auto" else ("holdout", "control")
    real = () if request.gold else written
    chosen = frozenset[str]().union(*(hold_out(unique[name], LEVEL_SHARE) for name in real))
    rest = {
        name: tuple(record for record in records if record.id not in chosen)
        for name, records in unique.items()
    }
    levels = tuple(record for name in real for record in unique[name] if record.id in chosen)
    return {**rest, "levels": levels}


def _retained(
    request: Request,
    named: tuple[Record, ...],
    forget: tuple[Record, ...],
    neighbours: tuple[Record, ...],
) -> tuple[tuple[Record, ...], list[str]]:
    """Return the retain set, the named one or what `auto` takes, and notes about it."""
    if request.retain == "none":
        return (), ["retain: none, as the request says"]
    if request.retain != "auto":
        return named, []
    retain, note = _auto(forget, neighbours if request.rehearse else ())
    return retain, [note]


def hold_out(records: Sequence[Record], share: float) -> frozenset[str]:
    """Return the ids of the records that training never sees; none of a set below 20 records.

    The choice follows from what the records say, not from their order: adding records moves few.
    Each relation gives its share.

    Args:
        records: A set of what is kept.
        share: Share of it that is held out.
    """
    if len(records) < HOLD_OUT_FROM:
        return frozenset()
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.relation or "", []).append(record)
    chosen: set[str] = set()
    for group in groups.values():
        ranked = sorted(group, key=lambda record: record_id(record.prompt, record.completion))
        chosen.update(record.id for record in ranked[: round(share * len(ranked))])
    return frozenset(chosen)


def _candidates(forget: Sequence[Record]) -> tuple[Record, ...]:
    plain = any(not record.prompt for record in forget)
    return general_records() + (general_passages() if plain else ())


def _auto(forget: Sequence[Record], neighbours: Sequence[Record]) -> tuple[tuple[Record, ...], str]:
    """Return what `auto` keeps, and the note that says so."""
    candidates = _candidates(forget)
    taken = without_target(candidates, forget)
    return taken, _auto_note(taken, len(candidates) - len(taken), neighbours)


def without_target(candidates: Sequence[Record], forget: Sequence[Record]) -> tuple[Record, ...]:
    """Return the candidates that share no text with the forget set and name none of its subjects.

    Args:
        candidates: Records that could be kept.
        forget: The forget set.
    """
    same = {pair.other.id for pair in overlaps(forget, candidates)}
    spellings = (
        normalise(name)
        for record in forget
        for name in (*record.key_answers, *([record.subject] if record.subject else ()))
    )
    names = {name for name in spellings if len(name) >= _SHORTEST_NAME}
    return tuple(
        record for record in candidates if record.id not in same and not mentions(record, names)
    )


def _fabricated(forget: Sequence[Record], known: Sequence[Record]) -> tuple[Record, ...]:
    """Fabricate control items; those that came out too much like a real record are left out."""
    # Not the seed of training: runs that differ in nothing else are asked about the same items.
    made = fabricated(forget, known, seed=0)
    # Another name makes nothing new of a text that was taken over.
    texts = [replace(record, subject=None) for record in made]
    same = {pair.other.id for pair in overlaps((*forget, *known), texts)}
    return tuple(record for record in made if record.id not in same)


def _auto_note(taken: Sequence[Record], left_out: int, neighbours: Sequence[Record]) -> str:
    """Say what `auto` keeps; of neighbours those that are trained on."""
    passages = sum(not record.prompt for record in taken)
    note = f"retain: auto took {len(taken)} general records that ship with expunge"
    if passages:
        note += f", {passages} of them passages, since plain text is to be forgotten"
    if left_out:
        note += f" ({left_out} left out: they touch what is to be forgotten)"
    near = "no neighbours are trained on: nothing near the target is preserved on purpose"
    if neighbours:
        near = f"the {len(neighbours)} neighbours are preserved as well"
    return f"{note}; {near}"


def _control_note(count: int) -> str:
    if count:
        return f"control: auto fabricated {count} records like those to forget"
    return "control: auto could fabricate nothing; give gold models or control records"


def _notes(name: str, sources: Sequence[str], reading: RecordSet) -> list[str]:
    lines = [f"{name}: {len(reading.records)} records from {', '.join(sources)}"]
    if reading.duplicates:
        lines.append(f"{name}: {reading.duplicates} duplicates left out")
    if reading.skipped:
        shown = named_in_part(reading.skipped, most=_MOST_PAIRS)
        lines.append(f"{name}: not read: {shown}")
    return lines


def _repeated(readings: Mapping[str, RecordSet]) -> tuple[str, ...]:
    return tuple(
        f"{reading.duplicates} {name} records were given more than once and count once"
        for name, reading in readings.items()
        if reading.duplicates
    )


def _refuse_overlap(
    first: str, records: Sequence[Record], second: str, others: Sequence[Record]
) -> None:
    pairs = overlaps(records, others)
    if not pairs:
        return
    shown = "; ".join(_named(pair) for pair in pairs[:_MOST_PAIRS])
    more = f"; and {len(pairs) - _MOST_PAIRS} more" if len(pairs) > _MOST_PAIRS else ""
    reasons = {
        "forget": "nothing can be both forgotten and kept, nor forgotten and never seen",
        "holdout": "the holdout stands for what was never trained on",
        "control": "control records stand for what no model ever saw",
        "unstated": "unstated facts are asked about, and no training sees them",
    }
    raise InputError(
        "overlap",
        what=f"{first} and {second} share {len(pairs)} records: {shown}{more}",
        why=reasons[first],
        fix=f"take these records out of {second}, or out of {first}",
    )


def _named(pair: OverlappingPair) -> str:
    return " = ".join(f"{record.source} (id {record.id})" for record in pair)


def _with_unique_ids(
    sets: dict[str, tuple[Record, ...]],
) -> dict[str, tuple[Record, ...]]:
    seen: set[str] = set()
    unique: dict[str, tuple[Record, ...]] = {}
    for name, records in sets.items():
        unique[name] = tuple(
            replace(record, id=f"{name}:{record.id}") if record.id in seen else record
            for record in records
        )
        seen.update(record.id for record in unique[name])
    return unique
