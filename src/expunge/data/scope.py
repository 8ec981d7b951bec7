"""The scope of a request: the records of each set, checked against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.data.fabricate import fabricated
from expunge.data.overlap import Pair, mentions, normalise, overlaps
from expunge.data.read import RecordSet, read
from expunge.data.record import Record
from expunge.errors import InputError, named_in_part
from expunge.request import Request

_GENERAL = Path(__file__).with_name("general.jsonl")
_PASSAGES = Path(__file__).with_name("passages.jsonl")
_SHORTEST_NAME = 3
_MOST_PAIRS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The records of every set of a request. Ids are unique over all sets."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]
    """Given by the request, or with `auto` the general records that ship with expunge."""
    neighbours: tuple[Record, ...]
    holdout: tuple[Record, ...]
    control: tuple[Record, ...]
    notes: tuple[str, ...]
    """One line for each thing that was taken or left out; names files and counts, no content."""
    repeated: tuple[str, ...] = ()
    """One line for each set in which records stood more than once."""
    rehearsed: bool = True
    """Whether training sees the neighbours."""

    @property
    def keep(self) -> tuple[Record, ...]:
        """What training preserves: retain, and the neighbours where they are rehearsed."""
        return self.retain + self.neighbours if self.rehearsed else self.retain


def gather(request: Request, *, offline: bool = False) -> Scope:
    """Read all sets of a request and check that they do not contradict each other.

    `retain = "auto"` takes the general records that ship with expunge, without those that overlap
    with the forget set or mention one of its subjects or key answers: questions, and passages too
    where some of what is forgotten is plain text, which questions hardly protect. The neighbours,
    where the request names any, are trained on as well, unless it says `rehearse = false`.
    `retain = "none"` takes nothing. The notes say which.

    `control = "auto"` fabricates control items from the forget set where the request names no gold
    (`expunge.data.fabricate`): without either there would be nothing to compare with.

    Ids that several sets use (files often count from 1) are prefixed with the name of the set, as
    in `retain:1`; those of the forget set stay.

    Args:
        request: What to forget and to keep.
        offline: Never ask the Hub.

    Raises:
        InputError: As `expunge.data.read.read`; `overlap` when a record to forget also stands in
            another set, or a record that no model may have seen stands in a set that is trained on.
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
    if request.retain == "none":
        notes.append("retain: none, as the request says")
        retain: tuple[Record, ...] = ()
    elif request.retain == "auto":
        retain, note = _auto(forget, neighbours if request.rehearse else ())
        notes.append(note)
    else:
        retain = taken("retain", request.retain)
    holdout = taken("holdout", request.holdout)
    if request.control == "auto":
        known = (*retain, *neighbours, *holdout)
        control = () if request.gold else _fabricated(forget, known)
        notes += [] if request.gold else [_control_note(len(control))]
    else:
        control = () if request.control == "none" else taken("control", request.control)
    others = {"retain": retain, "neighbours": neighbours, "holdout": holdout, "control": control}
    for name, records in others.items():
        _refuse_overlap("forget", forget, name, records)
    for unseen in ("holdout", "control"):
        for trained in ("retain", "neighbours"):
            _refuse_overlap(unseen, others[unseen], trained, others[trained])
    unique = _with_unique_ids({"forget": forget, **others})
    return Scope(
        notes=tuple(notes), repeated=_repeated(readings), rehearsed=request.rehearse, **unique
    )


def general_records() -> tuple[Record, ...]:
    """Return the questions of general knowledge, with answers, that ship with expunge."""
    return _shipped(_GENERAL)


def general_passages() -> tuple[Record, ...]:
    """Return the passages of plain text that ship with expunge; no audit reads them."""
    return _shipped(_PASSAGES)


def _shipped(path: Path) -> tuple[Record, ...]:
    return tuple(
        replace(record, source=f"expunge/{path.name}:{line}")
        for line, record in enumerate(read([str(path)]).records, start=1)
    )


def _candidates(forget: Sequence[Record]) -> tuple[Record, ...]:
    plain = any(not record.prompt for record in forget)
    return general_records() + (general_passages() if plain else ())


def _auto(forget: Sequence[Record], neighbours: Sequence[Record]) -> tuple[tuple[Record, ...], str]:
    """Return what `auto` keeps, and the note that says so."""
    candidates = _candidates(forget)
    taken = _without_target(candidates, forget)
    return taken, _auto_note(taken, len(candidates) - len(taken), neighbours)


def _without_target(candidates: Sequence[Record], forget: Sequence[Record]) -> tuple[Record, ...]:
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
    same = {pair.other.id for pair in overlaps((*forget, *known), made)}
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
    }
    raise InputError(
        "overlap",
        what=f"{first} and {second} share {len(pairs)} records: {shown}{more}",
        why=reasons[first],
        fix=f"take these records out of {second}, or out of {first}",
    )


def _named(pair: Pair) -> str:
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
