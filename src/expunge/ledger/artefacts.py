"""Artefacts: does a retrieval index, a cache or a backup hold the records of a request?

`no` is said only of what was read in whole. A file that nobody can read here, such as the vectors
of an index, a packed or an encrypted one, makes it `unknown`, unless another file says `yes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from expunge.data.records import Record
from expunge.errors import InputError
from expunge.ledger.entries import ArtefactEntry, Contains, EntryKind
from expunge.ledger.store import LedgerWriter
from expunge.provenance.keys import record_fingerprint
from expunge.requests.copies import RecordCopies, RecordCopy
from expunge.requests.corpus import read_corpus
from expunge.utils.io import did_you_mean, require_no_special_files


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtefactSearch:
    """What a search of one artefact found.

    Example:
        >>> ArtefactSearch(copies=(), unread=("index.faiss",), files=2).contains.value
        'unknown'
    """

    copies: tuple[RecordCopy, ...]
    unread: tuple[str, ...]
    """Files that could not be read, below the artefact."""
    files: int
    unsearchable: tuple[str, ...] = ()
    """Ids of records without a word that could be looked for."""

    @property
    def contains(self) -> Contains:
        """What may be said of the artefact."""
        if self.copies:
            return Contains.YES
        return Contains.UNKNOWN if self.unread or self.unsearchable else Contains.NO


def search_artefact(place: Path, records: Sequence[Record]) -> ArtefactSearch:
    """Search a file or a folder for records and their near copies.

    Args:
        place: File or folder of texts: txt, md, html, csv, tsv, json, jsonl, parquet, docx, pdf.
        records: What is looked for.

    Raises:
        InputError: `no-artefact`: there is no such file or folder.
        UsageError: `link-in-run`: there is a link in the folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from expunge.data.records import Record
        >>> record = Record(id="1", prompt=(), completion="Lin Aro was born in Oslo in 1990.")
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("He said: Lin Aro was born in Oslo in 1990!")
        ...     search_artefact(Path(folder), [record]).contains.value
        'yes'
    """
    if not place.exists():
        raise InputError(
            "no-artefact",
            what=f"there is no file or folder {place}",
            why="it is searched where it lies",
            fix=did_you_mean(str(place), "check the path"),
        )
    if place.is_dir():
        require_no_special_files(place)
    files = [place] if not place.is_dir() else sorted(f for f in place.rglob("*") if f.is_file())
    files = [each for each in files if each.stat().st_size]
    copies = RecordCopies(records)
    found: list[RecordCopy] = []
    unread: list[str] = []
    for file in files:
        try:
            corpus = read_corpus([str(file)])
        except InputError as error:
            if error.code != "empty-corpus":
                unread.append(file.name if file == place else file.relative_to(place).as_posix())
        else:
            found += copies.found_in(corpus.documents)
    return ArtefactSearch(
        copies=tuple(found),
        unread=tuple(unread),
        files=len(files),
        unsearchable=copies.unsearchable if files else (),
    )


def record_marks(records: Sequence[Record], key: bytes) -> tuple[str, ...]:
    """Return the keyed hashes of records, as the manifest of a run names them."""
    return tuple(record_fingerprint(each.question, each.completion, key) for each in records)


def held_artefact(writer: LedgerWriter, place: Path) -> ArtefactEntry:
    """Return the artefact of the ledger that lies at a place.

    Raises:
        InputError: `unknown-artefact`: the ledger has none there.
    """
    keyed = writer.keyed(str(place.resolve()))
    for each in writer.current(EntryKind.ARTEFACT).values():
        if isinstance(each, ArtefactEntry) and each.place == keyed:
            return each
    raise InputError(
        "unknown-artefact",
        what=f"the ledger has no artefact at {place}",
        why="the result of a search is written to its entry",
        fix=f"expunge ledger add artefact {place} --type retrieval-index (or cache, backup, ...)",
    )


def record_search(
    writer: LedgerWriter,
    artefact: ArtefactEntry,
    found: ArtefactSearch,
    *,
    records: Sequence[Record],
    today: date,
) -> ArtefactEntry:
    """Write the result of a search to the entry of its artefact, and return that.

    A `yes` that was found for other records, or that a person entered, stays: this search says
    nothing about those.

    Args:
        writer: Of the ledger.
        artefact: Its entry.
        found: The result.
        records: What was looked for.
        today: The day of the search.
    """
    searched_for = writer.keyed("\n".join(sorted(record_marks(records, writer.key))))
    contains = found.contains
    if artefact.contains is Contains.YES and artefact.searched_for != searched_for:
        contains, searched_for = Contains.YES, artefact.searched_for
    changed = replace(artefact, contains=contains, searched=today, searched_for=searched_for)
    writer.add(changed)
    return changed
