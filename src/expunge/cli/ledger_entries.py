"""`expunge ledger add` and `amend`: from words and flags to one entry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from expunge.cli.ledger_flags import EntryFlags, parsed_day, require_used, required
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.errors import InputError, UsageError
from expunge.ledger.artefacts import record_marks, search_artefact
from expunge.ledger.entries import (
    ArtefactAction,
    ArtefactEntry,
    ArtefactKind,
    ClaimState,
    Contains,
    Decision,
    Entry,
    EntryKind,
    Exemption,
    LegalBasis,
    ModelEntry,
    ModelOrigin,
    RecheckEntry,
    RecipientEntry,
    RequestEntry,
    known_method,
)
from expunge.ledger.recording import model_digest, record_request
from expunge.ledger.store import LedgerWriter, own_ledger, unknown_entry
from expunge.ledger.words import in_words
from expunge.utils.dates import today

_DIGEST_LENGTHS = (40, 64)


class EnteredEntry(NamedTuple):
    """What was written."""

    verb: str
    id: str
    said: str
    warnings: tuple[str, ...] = ()


def add_entry(path: Path, words: Sequence[str], flags: EntryFlags) -> EnteredEntry:
    """Add an entry of the kind that the first word names.

    Args:
        path: The ledger.
        words: Kind, then what the kind is known by.
        flags: The fields.

    Raises:
        UsageError: A word or a flag is missing, or does not fit.
        InputError: It names what the ledger does not have.
    """
    makers: Mapping[str, _Maker] = {
        "model": _new_model,
        "request": _new_request,
        "artefact": _new_artefact,
        "recipient": _new_recipient,
        "recheck": _new_recheck,
    }
    kind, rest = (words[0], words[1:]) if words else ("", ())
    if kind not in makers:
        raise UsageError(
            "unknown-kind",
            what=f"{kind!r} is not a kind of entry that can be added" if kind else "add what?",
            why="runs and claims are imported; the others are added by hand",
            fix=f"one of {', '.join(makers)}; or expunge ledger import RUN",
        )
    require_used(flags, kind)
    wanted = _NAMED_BY.get(kind)
    if len(rest) != (0 if wanted is None else 1) or not all(word.strip() for word in rest):
        raise UsageError(
            "wrong-words",
            what=f"add {kind} takes {f'one {wanted}' if wanted else 'no word of its own'};"
            f" given: {' '.join(map(repr, rest)) or 'nothing'}",
            why="a word too many or too few would be another entry",
            fix=f"expunge ledger add {kind}{f' {wanted.upper()}' if wanted else ''} --...",
        )
    records = () if flags.records is None else read([str(flags.records)], offline=True).records
    warnings = _require_there(flags, records)
    with own_ledger(path).writing() as writer:
        entry = makers[kind](writer, rest[0] if rest else "", flags, records)
        name = _written(writer, entry, late=flags.late)
        entry = writer.current(entry.kind)[name]
    return EnteredEntry("added", name, in_words(entry), warnings)


def amend_entry(path: Path, words: Sequence[str], flags: EntryFlags) -> EnteredEntry:
    """Change fields of an entry: a new entry of the same id, beside the old one.

    Args:
        path: The ledger.
        words: The id.
        flags: The fields that change.

    Raises:
        UsageError: A word or a flag is missing, or does not fit.
        InputError: The ledger has no such entry.
    """
    changers: Mapping[type, str] = {
        ModelEntry: "model",
        RequestEntry: "request",
        ArtefactEntry: "artefact",
        RecipientEntry: "recipient",
    }
    if len(words) != 1:
        raise UsageError(
            "wrong-words",
            what=f"amend takes one id; {len(words)} words were given",
            why="it changes one entry",
            fix="expunge ledger amend request-1 --answered 2026-01-31 --decision granted",
        )
    name = words[0]
    kind = name.partition("-")[0]
    if kind not in changers.values():
        raise UsageError(
            "cannot-amend",
            what=f"{name!r} is not an entry that can be amended",
            why="runs, claims and rechecks say what was found; a new recheck changes a claim",
            fix=f"an id of the kinds {', '.join(changers.values())}",
        )
    require_used(flags, kind)
    if flags == EntryFlags():
        raise UsageError(
            "nothing-to-amend",
            what=f"no flag says what changes in {name}",
            why="an entry that is the same says nothing",
            fix="see `expunge ledger --help` for the fields of each kind",
        )
    records = () if flags.records is None else read([str(flags.records)], offline=True).records
    warnings = _require_there(flags, records)
    with own_ledger(path).writing(make=False) as writer:
        before = writer.current(EntryKind(kind)).get(name)
        if before is None:
            raise unknown_entry(name)
        entry = _changed(writer, before, flags, records)
        warnings += _extended_late(before, entry)
        _written(writer, entry, late=True)
        entry = writer.current(entry.kind)[name]
    return EnteredEntry("amended", name, in_words(entry), warnings)


_NAMED_BY = {"model": "digest", "artefact": "path", "recipient": "name", "recheck": "claim"}
"""What the word after the kind is."""
_Maker = Callable[[LedgerWriter, str, EntryFlags, Sequence[Record]], Entry]


def _written(writer: LedgerWriter, entry: Entry, *, late: bool) -> str:
    if isinstance(entry, RequestEntry):
        return record_request(writer, entry, today=today(), late=late)
    return writer.add(entry)


def _new_model(
    writer: LedgerWriter, word: str, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    del records
    digest = word.lower()
    if len(digest) not in _DIGEST_LENGTHS or set(digest) - set("0123456789abcdef"):
        raise UsageError(
            "no-digest",
            what=f"{word!r} is no digest of weights",
            why="a model is known by 64 hex digits (a Hub commit: 40), not by its name",
            fix="the key `models` of a run's manifest.json has it; or import the run",
        )
    if known := writer.models().get(digest):
        raise UsageError(
            "model-known",
            what=f"this model is there: {known.id}",
            why="a model is entered once",
            fix=f"expunge ledger amend {known.id} --made ... --parent ...",
        )
    return ModelEntry(
        digest=digest,
        made=ModelOrigin(required(flags.made, "made", "a model")),
        parent=model_digest(writer, flags.parent),
        method=known_method(flags.method),
        place=writer.keyed(flags.place),
    )


def _new_request(
    writer: LedgerWriter, word: str, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    del word
    start = RequestEntry(
        basis=LegalBasis(required(flags.basis, "basis", "a request")),
        received=parsed_day(flags.received, "received") or today(),
    )
    return _changed(writer, start, flags, records)


def _new_artefact(
    writer: LedgerWriter, word: str, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    place = writer.keyed(str(Path(word).resolve()) if Path(word).exists() else word)
    for each in writer.current(EntryKind.ARTEFACT).values():
        if isinstance(each, ArtefactEntry) and each.place == place:
            raise UsageError(
                "artefact-known",
                what=f"an artefact at this place is there: {each.id}",
                why="an artefact is entered once",
                fix=f"expunge ledger amend {each.id} --contains ... --action ...",
            )
    kind = ArtefactKind(required(flags.type, "type", "an artefact"))
    return _changed(writer, ArtefactEntry(type=kind, place=place), flags, records)


def _new_recipient(
    writer: LedgerWriter, word: str, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    request = required(flags.request, "request", "a recipient")
    start = RecipientEntry(recipient=writer.keyed(word), request=request)
    return _changed(writer, start, flags, records)


def _new_recheck(
    writer: LedgerWriter, word: str, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    del records
    return RecheckEntry(
        claim=word,
        model=model_digest(writer, required(flags.model, "model", "a recheck")),
        derived=ModelOrigin(required(flags.derived, "derived", "a recheck")),
        result=ClaimState(required(flags.result, "result", "a recheck")),
        checked=_not_later(parsed_day(flags.checked, "checked"), "checked") or today(),
    )


def _changed(
    writer: LedgerWriter, entry: Entry, flags: EntryFlags, records: Sequence[Record]
) -> Entry:
    """Return an entry with the fields that flags give; others stay."""
    match entry:
        case RequestEntry():
            return _changed_request(writer, entry, flags, records)
        case ModelEntry():
            return replace(
                entry,
                made=ModelOrigin(flags.made) if flags.made else entry.made,
                parent=model_digest(writer, flags.parent) or entry.parent,
                method=known_method(flags.method) or entry.method,
                place=writer.keyed(flags.place) or entry.place,
            )
        case ArtefactEntry():
            contains = Contains(flags.contains) if flags.contains else entry.contains
            acted = _not_later(parsed_day(flags.acted, "acted"), "acted")
            return replace(
                entry,
                type=ArtefactKind(flags.type) if flags.type else entry.type,
                model=model_digest(writer, flags.model) or entry.model,
                request=flags.request or entry.request,
                contains=contains,
                # What a person enters is about no search.
                searched_for="" if flags.contains else entry.searched_for,
                action=ArtefactAction(flags.action) if flags.action else entry.action,
                acted=acted or (today() if flags.action else entry.acted),
            )
        case RecipientEntry():
            return replace(
                entry,
                request=flags.request or entry.request,
                artefact=flags.artefact or entry.artefact,
                told=_not_later(parsed_day(flags.told, "told"), "told") or entry.told,
            )
        case _:
            return entry


def _changed_request(
    writer: LedgerWriter, entry: RequestEntry, flags: EntryFlags, records: Sequence[Record]
) -> RequestEntry:
    changed = replace(
        entry,
        basis=LegalBasis(flags.basis) if flags.basis else entry.basis,
        received=parsed_day(flags.received, "received") or entry.received,
        extended=flags.extended or entry.extended,
        answered=parsed_day(flags.answered, "answered") or entry.answered,
        decision=Decision(flags.decision) if flags.decision else entry.decision,
        decided_by=writer.keyed(flags.decided_by) or entry.decided_by,
        exemptions=tuple(Exemption(each) for each in flags.exemption) or entry.exemptions,
        reference=writer.keyed(flags.reference) or entry.reference,
        records=record_marks(records, writer.key) or entry.records,
        model=model_digest(writer, flags.model) or entry.model,
    )
    # The deadline of the law follows what it is counted from.
    counted = ("basis", "received", "extended")
    recounted = any(getattr(changed, name) != getattr(entry, name) for name in counted)
    due = parsed_day(flags.due, "due") or (None if recounted else entry.due)
    return replace(changed, due=due)


def _extended_late(before: Entry, after: Entry) -> tuple[str, ...]:
    """Warn where a deadline is extended that has passed."""
    if not (isinstance(before, RequestEntry) and isinstance(after, RequestEntry)):
        return ()
    is_late = before.due is not None and before.due < today()
    if not is_late or before.extended or not after.extended:
        return ()
    return (f"the deadline passed on {before.due}: an extension must be told to the person before",)


def _not_later(day: date | None, flag: str) -> date | None:
    """Refuse a day that has not come."""
    if day is not None and day > today():
        raise UsageError(
            "day-to-come",
            what=f"--{flag} {day} is in the future",
            why="the ledger says what happened",
            fix="check the day",
        )
    return day


def _require_there(flags: EntryFlags, records: Sequence[Record]) -> tuple[str, ...]:
    """Refuse a request for records that the named data do not hold; return warnings."""
    if not flags.corpus:
        return ()
    if not records:
        raise UsageError(
            "corpus-without-records",
            what="--corpus needs --records",
            why="the data are searched for the records of the request",
            fix="name the file of the records",
        )
    found = [search_artefact(place, records) for place in flags.corpus]
    held = {copy.record for each in found for copy in each.copies}
    unread = sum(len(each.unread) for each in found)
    if all(each.contains is Contains.NO for each in found):
        raise InputError(
            "never-there",
            what=f"none of {len(records)} records, nor a near copy, is in the named data",
            why="a request for data that was never there has nothing to erase",
            fix="check --records and --corpus; to enter it all the same leave --corpus away, and"
            " answer with --decision not-held",
        )
    warnings: list[str] = []
    if len(held) < len(records):
        warnings.append(f"{len(records) - len(held)} of {len(records)} records are not in the data")
    if unread:
        warnings.append(f"{unread} files of the data could not be searched")
    return tuple(warnings)
