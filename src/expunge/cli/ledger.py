"""`expunge ledger`: the books of every model, request, run and claim."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from expunge.cli.ledger_flags import EntryFlags, LedgerFlags, require_action, require_used
from expunge.cli.session import Given, Session
from expunge.cli.settings import run_folder
from expunge.errors import GateError, UsageError
from expunge.utils.dates import today

if TYPE_CHECKING:
    from expunge.ledger.entries import Entry
    from expunge.ledger.import_run import FinishedFolder, ImportedRun
    from expunge.ledger.store import Ledger

Action = Literal["show", "verify", "export", "due", "import", "add", "amend", "search"]


def ledger(
    action: Annotated[
        Action,
        Parameter(help="show, verify, export, due, import, add, amend or search"),
    ] = "show",
    /,
    *words: Annotated[
        str,
        Parameter(
            help="show: ids; import: run folders; amend: an id; search: an artefact; add: a kind,"
            " then of a model its digest, of an artefact its path, of a recipient its name, of a"
            " recheck the id of a claim"
        ),
    ],
    given: LedgerFlags | None = None,
    entry: EntryFlags | None = None,
    session: Given,
) -> int:
    """Keep the books: models, requests, runs, claims, rechecks, artefacts, recipients.

    The ledger only grows. Every entry is signed and chained to the one before; `verify` names what
    was changed. Names, paths and records enter as keyed hashes alone. Days are ISO: 2026-01-31.
    """
    from expunge.ledger.connection import ledger_path

    given, entry = given or LedgerFlags(), entry or EntryFlags()
    require_action(given, action)
    path = given.ledger or ledger_path()
    if action in ("add", "amend"):
        from expunge.cli.ledger_entries import add_entry, amend_entry

        done = (add_entry if action == "add" else amend_entry)(path, words, entry)
        session.console.line(done.verb, f"{done.id}   {done.said}")
        for warning in done.warnings:
            session.console.warn(warning)
        session.console.event("done", {"id": done.id, "exit": 0})
        return 0
    require_used(entry, action)
    if words and action in ("verify", "export", "due"):
        raise UsageError(
            "too-many-words",
            what=f"{words[0]!r} does not go with {action}",
            why=f"{action} is about the whole ledger",
            fix="leave it away; --ledger names another file",
        )
    actions: Mapping[str, Callable[[], int]] = {
        "show": lambda: _show(path, words, entry, given, session),
        "verify": lambda: _verify(path, given, session),
        "export": lambda: _export(path, given, session),
        "due": lambda: _due(path, given, session),
        "import": lambda: _import(path, words, entry, session),
        "search": lambda: _search(path, words, entry, given, session),
    }
    return actions[action]()


def _opened(path: Path, session: Session) -> "Ledger":
    """Open a ledger for reading; warn where it is not what its last writer left."""
    from expunge.ledger.store import Ledger

    ledger = Ledger(path)
    if not ledger.is_as_left():
        session.console.warn(f"{path} is not what its signed head says: expunge ledger verify")
    return ledger


def _show(
    path: Path, words: tuple[str, ...], entry: EntryFlags, given: LedgerFlags, session: Session
) -> int:
    """Show entries as they stand; of ids that are named, everything that was entered."""
    from expunge.ledger.entries import EntryKind
    from expunge.ledger.store import by_id, entries_of, unknown_entry

    rows = _opened(path, session).rows()
    if words:
        for name in words:
            kind = name.partition("-")[0]
            of_kind = entries_of((row for row in rows if row.kind == kind), path)
            history = [(row, each) for row, each in of_kind if each.id == name]
            if not history:
                raise unknown_entry(name)
            for row, each in history:
                _show_entry(session, f"entry {row.sequence}", each, at=row.time)
        return 0
    kinds = [EntryKind(given.kind)] if given.kind else list(EntryKind)[1:]
    found = {kind: by_id([row for row in rows if row.kind == kind], path) for kind in EntryKind}
    shown = [each for kind in kinds for each in found[kind].values()]
    if entry.reference or entry.place:
        wanted = _keyed(path, entry)
        shown = [each for each in shown if wanted & {str(cell) for cell in asdict(each).values()}]
    states = _claim_states(found[EntryKind.RECHECK].values())
    for each in shown:
        _show_entry(session, each.id, each, states=states.get(each.id))
    if not shown:
        session.console.line("empty", f"{path} has no such entry")
    session.console.event("done", {"ledger": path, "entries": len(shown), "exit": 0})
    return 0


def _keyed(path: Path, entry: EntryFlags) -> set[str]:
    """Return the keyed hashes of what is looked for; of a path, also that of where it leads."""
    from expunge.provenance.keys import fingerprint, key_path, operator_key

    key = operator_key(key_path(), run=path)
    places = (entry.place, str(Path(entry.place).resolve())) if entry.place else ()
    texts = (entry.reference, *places)
    return {fingerprint(text, key) for text in texts if text}


def _show_entry(
    session: Session,
    label: str,
    entry: "Entry",
    *,
    states: Mapping[str, str] | None = None,
    at: str = "",
) -> None:
    from expunge.ledger.words import in_words

    said = in_words(entry)
    if states:
        now = (f"{state} for {model[:12] or 'a server'}" for model, state in states.items())
        said += f"; now {', '.join(now)}"
    session.console.line(label, f"{at}: {said}" if at else said)
    row = asdict(entry) | ({"states": states} if states else {}) | ({"time": at} if at else {})
    session.console.event("entry", {"kind": str(entry.kind), **row})


def _claim_states(rechecks: Iterable["Entry"]) -> dict[str, dict[str, str]]:
    """Return what the last recheck of each claim said of each model, by digest."""
    from expunge.ledger.entries import RecheckEntry

    found: dict[str, dict[str, str]] = {}
    for each in rechecks:
        if isinstance(each, RecheckEntry):
            found.setdefault(each.claim, {})[each.model] = str(each.result)
    return found


def _verify(path: Path, given: LedgerFlags, session: Session) -> int:
    from expunge.ledger.verify import verify_ledger
    from expunge.provenance.signature import read_public_key, signing_key

    console = session.console
    if given.key is not None:
        signer = read_public_key(given.key)
    else:
        own = signing_key(path)
        signer = None if own is None else own.public
    found = verify_ledger(path, signer=signer, head=given.head)
    for note in found.notes:
        console.note(note)
    for problem in found.problems:
        console.line("problem", f"{problem.path}: {problem.what}")
        console.event("problem", {"path": problem.path, "what": problem.what})
    ended = {"ok": found.ok, "entries": found.entries, "head": found.head, "signer": found.signer}
    console.event("done", {**ended, "notes": list(found.notes), "exit": 0 if found.ok else 3})
    if not found.ok:
        raise GateError(
            "not-verified",
            what=f"{len(found.problems)} problem(s) in {path}",
            why="an entry, the end or a byte of the file is not what its writer left",
            fix="do not rely on it; restore the ledger and its head from a backup",
        )
    console.line("verified", f"{found.entries} entries of {path}")
    whose = "" if signer is not None else "; compare it, or name the signer with --key"
    console.line("signed", f"by {found.signer}{whose}")
    console.line("head", f"{found.head}   keep it elsewhere: verify --head")
    return 0


def _export(path: Path, given: LedgerFlags, session: Session) -> int:
    from expunge.utils.io import jsonl, write_bytes

    rows = _opened(path, session).rows()
    data = jsonl(row.to_json() for row in rows)
    if given.out is None:
        sys.stdout.write(data.decode())
        return 0
    write_bytes(given.out, data, owner_only=True)
    session.console.line("exported", f"{len(rows)} entries to {given.out}")
    session.console.event("done", {"file": given.out, "entries": len(rows), "exit": 0})
    return 0


def _due(path: Path, given: LedgerFlags, session: Session) -> int:
    from expunge.ledger.deadlines import deadlines
    from expunge.ledger.entries import EntryKind, RequestEntry

    console = session.console
    requests = _opened(path, session).current(EntryKind.REQUEST)
    found = deadlines((each for each in requests if isinstance(each, RequestEntry)), today=today())
    for each in found:
        request = each.request
        when = "no deadline" if each.days is None else f"due {request.due}, {_days(each.days)}"
        console.line(request.id, f"{when}; {request.basis}, received {request.received}")
        row = {"id": request.id, "due": request.due, "days": each.days, "overdue": each.overdue}
        console.event("due", {**row, "basis": str(request.basis)})
    late = sum(each.overdue for each in found)
    console.line("open", f"{len(found)} requests, {late} overdue")
    failed = given.gate and late > 0
    console.event("done", {"open": len(found), "overdue": late, "exit": 3 if failed else 0})
    if failed:
        raise GateError(
            "overdue",
            what=f"requests overdue: {late}",
            why="their deadline has passed without an answer",
            fix="answer them, then expunge ledger amend ID --answered DAY --decision ...",
        )
    return 0


def _days(days: int) -> str:
    if days == 0:
        return "today"
    count = f"{abs(days)} day{'s' if abs(days) != 1 else ''}"
    return f"OVERDUE by {count}" if days < 0 else f"in {count}"


def _import(path: Path, words: tuple[str, ...], entry: EntryFlags, session: Session) -> int:
    from expunge.ledger.import_run import import_run, read_run
    from expunge.ledger.recording import held_request
    from expunge.ledger.store import own_ledger
    from expunge.provenance.training_facts import is_trained_run

    if not words:
        raise UsageError(
            "nothing-to-import",
            what="no run folder is named",
            why="import reads finished runs of forget, audit, attack and train",
            fix="expunge ledger import runs/latest",
        )
    console = session.console
    # All are read before the ledger is locked: one that is broken stops nothing half-way.
    folders = [run_folder(Path(word)) for word in words]
    trainings = [each for each in folders if is_trained_run(each)]
    runs = sorted((read_run(each) for each in folders if each not in trainings), key=_created)
    known = _trainings(path, trainings, session)
    with own_ledger(path).writing() as writer:
        if entry.request:
            held_request(writer, entry.request)
        done = [import_run(writer, run, request=entry.request, today=today()) for run in runs]
    entered = [*zip(trainings, known, strict=True)]
    entered += [(run.folder, each) for run, each in zip(runs, done, strict=True)]
    for folder, each in entered:
        word = "imported" if each.is_new else "known"
        about = ", ".join(filter(None, (each.request, each.claim)))
        console.line(word, f"{folder}   {each.run}{f' ({about})' if about else ''}")
        console.event("run", asdict(each))
    count = sum(each.is_new for _, each in entered)
    console.event("done", {"imported": count, "known": len(entered) - count, "exit": 0})
    return 0


def _trainings(path: Path, folders: list[Path], session: Session) -> "list[ImportedRun]":
    """Enter trainings of `expunge train`, whose models are loaded."""
    if not folders:
        return []
    session.begin()

    from expunge.pipeline.bookkeeping import enter_trainings

    return enter_trainings(path, folders)


def _created(run: "FinishedFolder") -> datetime:
    return run.manifest.created


def _search(
    path: Path, words: tuple[str, ...], entry: EntryFlags, given: LedgerFlags, session: Session
) -> int:
    from expunge.data.readers import read
    from expunge.ledger.artefacts import held_artefact, record_search, search_artefact
    from expunge.ledger.entries import Contains
    from expunge.ledger.store import own_ledger

    if len(words) != 1 or not words[0].strip() or entry.records is None:
        raise UsageError(
            "search-incomplete",
            what="search needs one artefact and --records",
            why="it looks into a file or folder for the records of a request",
            fix="expunge ledger search INDEX_FOLDER --records erase.jsonl",
        )
    console, place = session.console, Path(words[0])
    records = read([str(entry.records)], offline=True).records
    book = own_ledger(path)
    with book.writing(make=False) as writer:
        held_artefact(writer, place)  # answered before a search that may take long
    found = search_artefact(place, records)
    with book.writing() as writer:
        artefact = held_artefact(writer, place)
        artefact = record_search(writer, artefact, found, records=records, today=today())
    for each in found.copies:
        console.line("found", f"record {each.record} in {each.source}")
        console.event("found", asdict(each))
    for name in found.unread:
        console.line("unread", f"{name}: not a text that can be searched")
    if found.unsearchable:
        console.line("unread", f"{len(found.unsearchable)} records have no word to look for")
    count = len({each.record for each in found.copies})
    console.line("searched", f"{found.files} files for {len(records)} records: {count} found")
    console.line(artefact.id, f"contains {artefact.contains}")
    if artefact.contains is not found.contains:
        console.note(f"this search says {found.contains}; the yes was entered for other records")
    failed = given.gate and artefact.contains is not Contains.NO
    ended = {"id": artefact.id, "contains": str(artefact.contains), "unread": list(found.unread)}
    console.event("done", {**ended, "exit": 3 if failed else 0})
    if failed:
        raise GateError(
            "artefact-contains",
            what=f"{artefact.id}: contains {artefact.contains}",
            why="what was to be forgotten is, or may be, still there",
            fix=f"clean or rebuild it, search again; then expunge ledger amend {artefact.id}"
            " --action rebuilt",
        )
    return 0
