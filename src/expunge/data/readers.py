"""Read records from files, folders and Hub data sets; nothing needs to be registered."""

import bz2
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from expunge.data.convert import FIELDS, to_record, with_short_answers_named
from expunge.data.hub import hub_values, require_kept
from expunge.data.records import Record
from expunge.errors import InputError
from expunge.utils.io import did_you_mean, expanded

LONGEST_RECORD = 16 * 2**20
"""Characters of a text: the collected works of one author. More is no record."""
MOST_UNPACKED = 2**30
"""Bytes of a packed file, unpacked: a few kilobytes can hold any number of zeros."""
_NOT_DATA = ("readme", "license", "licence", "notice", "changelog")
_LONGEST_NAME = 255
_MOST_WORDS = 3
"""Of a path that an error shows in full: more may be a sentence about somebody."""
_HUB_ID = re.compile(
    r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(/(?P<config>[\w.-]+))?"
    r"(:(?P<split>[\w.-]+(\[[-%\d]*:[-%\d]*\])?))?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSet:
    """The records that were read, and what was left out."""

    records: tuple[Record, ...]
    duplicates: int
    """Records left out because one with the same prompt and completion came before."""
    skipped: tuple[str, ...]
    """Files of the folders that hold no records: other suffixes, README, licence."""


class SourceRow(NamedTuple):
    """One line, table row or array element, and where it is."""

    value: object
    source: str


def read(sources: Sequence[str], *, offline: bool = False) -> RecordSet:
    """Read the records of one set.

    A source is a file (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`, `.md`), a folder (all
    such files below it, in the order of their paths), or a Hub data set `owner/name`,
    `owner/name:split[:400]` or `owner/name/config:split` (split `train` when none is named). What
    exists on disk is never looked up on the Hub. A text file is one plain passage. `.json` may hold
    an array, one object, or JSON Lines. All but Parquet may be compressed (`.gz`, `.bz2`). Fields:
    see `expunge.data.convert.to_record`.

    Of records with equal prompt and completion the first is kept; the result says how many others
    there were. In sets of short answers these are key answers, see `with_short_answers_named`.

    Args:
        sources: Files, folders, Hub ids.
        offline: Send no request to the Hub, and read its local copy; `HF_HUB_OFFLINE=1` means the
            same.

    Raises:
        InputError: A source is missing, unreadable, malformed or empty, or two different records
            have the same id. Messages name file and line, never the content.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "forget.jsonl")
        ...     _ = path.write_text('{"prompt": "Where does Lin live?", "completion": "In Oslo."}')
        ...     found = read([str(path)])
        >>> found.records[0].completion, found.duplicates
        ('In Oslo.', 0)
    """
    skipped: list[str] = []
    rows = (row for source in sources for row in _rows(source, offline=offline, skipped=skipped))
    by_id: dict[str, Record] = {}
    contents: set[tuple[object, str]] = set()
    duplicates = 0
    for record in (to_record(row.value, row.source) for row in map(_sized, rows)):
        if (record.prompt, record.completion) in contents:
            duplicates += 1
            continue
        if record.id in by_id:
            raise _duplicate_id(by_id[record.id], record)
        contents.add((record.prompt, record.completion))
        by_id[record.id] = record
    if not by_id:
        raise InputError(
            "empty-data",
            what=f"no records in {', '.join(sources) or 'an empty list of sources'}",
            why="there is nothing to read: every file is empty, or of a kind that holds no records",
            fix="point to .jsonl, .json, .csv, .tsv, .parquet, .txt or .md files with records",
        )
    records = with_short_answers_named(tuple(by_id.values()))
    return RecordSet(records=records, duplicates=duplicates, skipped=tuple(skipped))


def read_rows(source: str, *, offline: bool = False) -> list[SourceRow]:
    """Read the rows of one file or Hub data set as they are, in any convention, none left out.

    For benchmarks, whose fields are their own and whose counts are checked.

    Args:
        source: File or Hub id, as for `read`.
        offline: Send no request to the Hub.

    Raises:
        InputError: The source is missing, unreadable or malformed.
    """
    return list(_rows(source, offline=offline, skipped=[]))


def require_source(source: str, *, offline: bool = False) -> None:
    """Refuse a source that is neither a file or folder that can be read nor an id of the Hub.

    Nothing is read, and the Hub is not asked.

    Args:
        source: As for `read`.
        offline: Whether the Hub may not be asked; `HF_HUB_OFFLINE=1` means the same.

    Raises:
        InputError: As `read`, for a missing file, one of an unknown kind, or a data set that is
            not kept here where the Hub may not be asked or does not answer.
    """
    path = expanded(source)
    if len(path.name.encode()) <= _LONGEST_NAME:
        if path.is_file():
            _reader(path)
        if path.exists():
            return
        if (name := hub_name(source)) is not None:
            return require_kept(source, name, offline=offline)
    raise _missing(source)


def require_prompts(path: Path) -> None:
    """Check that a file of own prompts is there; it is not read.

    Raises:
        InputError: It is not there.
    """
    if not path.is_file():
        otherwise = 'check the path; its lines are such as {"prompt": "In short: {question}"}'
        raise InputError(
            "no-prompts",
            what=f"there is no file {path}",
            why="own prompts are read from a file with one JSON object a line",
            fix=did_you_mean(str(path), otherwise),
        )


def _sized(row: SourceRow) -> SourceRow:
    """Refuse a row too long for a record, before any of it becomes tokens."""
    size = _characters(row.value)
    if size <= LONGEST_RECORD:
        return row
    raise InputError(
        "too-large",
        what=f"{row.source}: a record of {size:,} characters",
        why=f"a record has at most {LONGEST_RECORD:,}",
        fix="cut the text into records: one JSON object a line, a passage in each",
    )


def _characters(value: object) -> int:
    """Count the characters of all texts in a value: also those of turns, and of lists."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list | tuple) else 0


def _rows(source: str, *, offline: bool, skipped: list[str]) -> Iterator[SourceRow]:
    path = expanded(source)
    if len(path.name.encode()) > _LONGEST_NAME:
        raise _missing(source)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            _require_readable_name(file)
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if hidden or not file.is_file():
                continue
            if _ending(file) in _READERS and not file.stem.lower().startswith(_NOT_DATA):
                yield from _file_rows(file)
            else:
                skipped.append(str(file))
    elif path.is_file():
        yield from _file_rows(path)
    else:
        yield from _hub_rows(source, offline=offline)


def _file_rows(path: Path) -> Iterator[SourceRow]:
    reader = _reader(path)
    try:
        yield from reader(path)
    except OSError as error:
        raise InputError(
            "unreadable",
            what=f"{path}: cannot be read",
            why=error.strerror or type(error).__name__,
            fix="check that the file is there and that you may read it",
        ) from error


def _reader(path: Path) -> Callable[[Path], Iterator[SourceRow]]:
    reader = _READERS.get(_ending(path))
    if reader is None:
        raise InputError(
            "unknown-format",
            what=f"{path}: cannot read files that end in `{path.suffix or 'no suffix'}`",
            why=f"known endings are {' '.join(_READERS)}",
            fix="convert the file to JSON Lines: one object a line with prompt and completion",
        )
    return reader


def _ending(path: Path) -> str:
    """Return what says how to read a file: its suffix, or the one before that of the packing."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKINGS else suffix


def _require_readable_name(path: Path) -> None:
    """Refuse a name that is not UTF-8: no report, log or manifest could hold it."""
    if any("\ud800" <= each <= "\udfff" for each in path.name):
        raise InputError(
            "name-not-utf8",
            what=f"{path.parent} holds a file whose name is not UTF-8: {path.name!a}",
            why="its name would stand in reports and manifests, which are UTF-8",
            fix="rename the file",
        )


def _unpacked(path: Path) -> bytes:
    unpack = _PACKINGS.get(path.suffix.lower())
    try:
        if unpack is None:
            return path.read_bytes()
        with unpack(path) as file:
            content = file.read(MOST_UNPACKED + 1)
        if len(content) <= MOST_UNPACKED:
            return content
        raise InputError(
            "too-large",
            what=f"{path}: more than {MOST_UNPACKED:,} bytes once unpacked",
            why="a small packed file can hold any number of bytes, and fill the memory",
            fix="unpack it yourself and split it into files",
        )
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            "damaged-file",
            what=f"{path}: cannot be unpacked",
            why=f"it is cut short or damaged ({type(error).__name__})",
            fix="download or pack the file again",
        ) from None


def decoded(path: Path) -> str:
    """Return the text of a file, unpacked where it is compressed, without a byte order mark.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, is too large, or is not UTF-8.
    """
    try:
        return _unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "not-utf8",
            what=f"{path}: not UTF-8 text (byte {error.start})",
            why="reading it in another encoding could change names without anyone noticing",
            fix="convert it first, for example: iconv -f latin1 -t utf-8 IN > OUT",
        ) from None


def _text_file(path: Path) -> Iterator[SourceRow]:
    yield SourceRow({"text": decoded(path)}, str(path))


def _json_lines(path: Path) -> Iterator[SourceRow]:
    yield from _parsed_lines(decoded(path), path)


def _parsed_lines(text: str, path: Path) -> Iterator[SourceRow]:
    # Not str.splitlines: it also cuts at U+0085 and U+2028, which JSON strings may hold raw.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \t\r"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _bad_json(path, number, error) from None
            yield SourceRow(value, f"{path}:{number}")


def _json_file(path: Path) -> Iterator[SourceRow]:
    text = decoded(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if not text.lstrip().startswith("{"):
            raise _bad_json(path, error.lineno, error) from None
        yield from _parsed_lines(text, path)
        return
    except (ValueError, RecursionError) as error:
        raise _bad_json(path, 1, error) from None
    if isinstance(value, list):
        yield from _numbered(value, str(path))
    else:
        yield SourceRow(value, f"{path}:1")


def _numbered(values: Iterable[object], name: str) -> Iterator[SourceRow]:
    return (SourceRow(value, f"{name}#{n}") for n, value in enumerate(values, start=1))


def _bad_json(path: Path, line: int, error: Exception) -> InputError:
    reason = (
        error.msg if isinstance(error, json.JSONDecodeError) else "nested or long beyond reason"
    )
    return InputError(
        "invalid-json",
        what=f"{path}:{line}: not valid JSON",
        why=reason[0].lower() + reason[1:],
        fix="write one JSON object on each line, or one JSON array of objects in a .json file",
    )


def _csv_file(path: Path) -> Iterator[SourceRow]:
    yield from _table(path, delimiter=",")


def _tsv_file(path: Path) -> Iterator[SourceRow]:
    yield from _table(path, delimiter="\t")


def _table(path: Path, *, delimiter: str) -> Iterator[SourceRow]:
    # newline="" leaves line ends inside quoted cells as they are.
    reader = csv.reader(io.StringIO(decoded(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            return
        if not set(header) & set(FIELDS):
            # The first line is not shown: without a header it is a record.
            raise InputError(
                "no-header",
                what=f"{path}:1: the first line names no known column",
                why="a table needs a header line to say which column is what",
                fix="add a first line such as prompt,completion or question,answer or text",
            )
        for cells in reader:
            if not cells:
                continue
            source = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise InputError(
                    "ragged-row",
                    what=f"{source}: {len(cells)} cells, but the header names {len(header)}",
                    why="text with a separator or a line break in it is probably not quoted",
                    fix='put cells that hold separators in double quotes: "like, this"',
                )
            yield SourceRow(
                {k: cell for k, cell in zip(header, cells, strict=True) if cell}, source
            )
    except csv.Error as error:
        raise InputError(
            "invalid-table",
            what=f"{path}:{reader.line_num}: not a valid table",
            why=str(error),
            fix="check the quotes on and before this line, or convert the file to JSON Lines",
        ) from None


def _parquet_file(path: Path) -> Iterator[SourceRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise InputError(
            "invalid-parquet",
            what=f"{path}: not a readable Parquet file",
            why=f"the file is damaged or of another kind ({type(error).__name__})",
            fix="download or write the file again",
        ) from None
    yield from _numbered(rows, str(path))


_READERS: Mapping[str, Callable[[Path], Iterator[SourceRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_file,
    ".csv": _csv_file,
    ".tsv": _tsv_file,
    ".parquet": _parquet_file,
    ".txt": _text_file,
    ".md": _text_file,
}
_PACKINGS: Mapping[str, type[gzip.GzipFile] | type[bz2.BZ2File]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
}


def is_hub_id(source: str) -> bool:
    """Tell whether a source that is not on disk can be meant for a data set on the Hub."""
    return _hub_match(source) is not None


def hub_name(source: str) -> str | None:
    """Return the `owner/name` of a source that is a data set of the Hub; None for a file."""
    match = None if expanded(source).exists() else _hub_match(source)
    return None if match is None else match["name"]


def _hub_match(source: str) -> re.Match[str] | None:
    match = _HUB_ID.fullmatch(source)
    # `data/forget` next to a folder `data` is a mistyped path, not somebody's data set.
    if match is None or _ending(Path(source)) in _READERS or Path(source).parts[0] in _here():
        return None
    return match


def _hub_rows(source: str, *, offline: bool) -> Iterator[SourceRow]:
    match = _hub_match(source)
    if match is None:
        raise _missing(source)
    split = match["split"] or "train"
    values = hub_values(source, match["name"], match["config"], split, offline=offline)
    yield from _numbered(values, source)


def _missing(source: str) -> InputError:
    # Somebody may pass a text to forget where its file is wanted: only its beginning is shown.
    short = len(source) <= _LONGEST_NAME and len(source.split()) <= _MOST_WORDS
    shown = source if short else f"{source[:20]}..."
    return InputError(
        "data-missing",
        what=f"no file or folder {shown}",
        why="a source is a file, a folder, or a Hub data set owner/name:split",
        fix=did_you_mean(source, "check the spelling and the folder you are in"),
    )


def _here() -> set[str]:
    return {entry.name for entry in Path().iterdir()}


def _duplicate_id(first: Record, second: Record) -> InputError:
    return InputError(
        "duplicate-id",
        what=f"id {second.id} is used twice, at {first.source} and {second.source}",
        why="evidence is joined by id, and these two records differ",
        fix="make the ids unique, or take the field `id` out: records are then named by content",
    )
