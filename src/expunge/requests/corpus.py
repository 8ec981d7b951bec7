"""The corpus: files and folders as documents, each with its place, so that people find it again.

A document is a passage of a text file, or one row of a table or of JSON Lines. Rows that are
questions with answers stay such. Nothing leaves the machine.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

from expunge.data.convert import to_record
from expunge.data.readers import decoded, read_rows, require_source
from expunge.data.records import Record
from expunge.errors import InputError, UsageError, named_in_part
from expunge.utils.io import expanded

PASSAGE = 1200
"""Characters up to which paragraphs of a text are joined to one document."""
_EXTRA = "pip install 'expunge[documents]'"
_AS_TEXT = "save them as text, or as a table"
_TABLES = {".csv": ",", ".tsv": "\t"}
_ROWS = (".jsonl", ".json", ".parquet")
_BLOCKS = frozenset(
    "p div br li tr td th h1 h2 h3 h4 h5 h6 section article header footer table ul ol".split()  # noqa: SIM905
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s])|(?<=[。！？])\s*(?=[^\s])")  # noqa: RUF001


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One passage or row of the corpus."""

    text: str
    """What is searched."""
    source: str
    """`file:line`, `file#number` or the file, for people."""
    file: str
    place: int
    """Its number within the file, from 0: neighbours follow each other."""
    columns: tuple[tuple[str, str], ...] = ()
    """Name and cell of every column, where the row is one of a table."""
    record: Record | None = None
    """The row as a record, where it is a question with its answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """All documents, in the order of their files."""

    documents: tuple[Document, ...]
    problems: tuple[str, ...] = ()
    """Files of folders that could not be read, each with the reason."""


def read_corpus(sources: Sequence[str], *, offline: bool = False) -> Corpus:
    """Read the documents of files, folders and Hub data sets.

    A file of a folder that cannot be read is listed among the problems and stops nothing. A file
    that is named itself must be readable.

    Args:
        sources: txt, md, html, csv, tsv, json, jsonl, parquet, docx and pdf files, folders, Hub
            ids.
        offline: Send no request to the Hub.

    Raises:
        UsageError: `no-corpus`: no source is named.
        InputError: A source is missing or unreadable, or holds no text at all.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "letter.txt").write_text("Lin Aro lives in Oslo.")
        ...     [each.text for each in read_corpus([folder]).documents]
        ['Lin Aro lives in Oslo.']
    """
    require_corpus(sources)
    documents: list[Document] = []
    problems: list[str] = []
    for source in sources:
        path = expanded(source)
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if _is_visible(each, path))
            for file in (each for each in files if each.suffix.lower() in _READERS):
                try:
                    documents += _documents(file)
                except InputError as error:
                    problems.append(f"{error.what}; {error.fix}")
                except OSError as error:
                    problems.append(f"{file}: {error.strerror or type(error).__name__}")
            problems += _unknown_kinds(path, files)
        elif path.is_file():
            documents += _documents(path)
        else:
            rows = read_rows(source, offline=offline)
            documents += [_row(row.value, row.source, source, n) for n, row in enumerate(rows)]
    documents = [each for each in documents if each.text.strip()]
    if not documents:
        raise InputError(
            "empty-corpus",
            what=f"no text in {', '.join(sources)}",
            why=problems[0] if problems else "there is no file, or every file is empty",
            fix="name txt, md, html, csv, json, jsonl, parquet, docx or pdf files with text",
        )
    return Corpus(documents=tuple(documents), problems=tuple(problems))


def require_corpus(sources: Sequence[str]) -> None:
    """Refuse a corpus that cannot be read: nothing named, nothing there, files of an unknown kind.

    Nothing is read, and the Hub is not asked.

    Args:
        sources: As for `read_corpus`.

    Raises:
        UsageError: `no-corpus`: no source is named.
        InputError: A source is missing, or a file of an unknown kind.
    """
    if not sources:
        raise UsageError(
            "no-corpus",
            what="no corpus is named",
            why="mentions are looked for in your own files; nothing is guessed",
            fix='expunge request "NAME" --corpus FOLDER --out request',
        )
    for source in sources:
        path = expanded(source)
        if not path.is_file():
            require_source(source)
        elif path.suffix.lower() not in _READERS:
            raise InputError(
                "unknown-kind",
                what=f"{path}: files of this kind are not read",
                why=f"read are {', '.join(sorted(_READERS))}",
                fix="save it as text, or as a table",
            )


def _is_visible(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden


def _unknown_kinds(folder: Path, files: Sequence[Path]) -> list[str]:
    """Say how many files of a folder are of kinds that are not read; nothing where none is."""
    kinds = Counter(each.suffix.lower() or "no ending" for each in files)
    unknown = [f"{kind} ({count})" for kind, count in sorted(kinds.items()) if kind not in _READERS]
    shown = named_in_part(unknown, most=8)
    return [f"{folder}: files of kinds that are not read: {shown}; {_AS_TEXT}"] if unknown else []


def _documents(path: Path) -> list[Document]:
    return list(_READERS[path.suffix.lower()](path))


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text.

    Example:
        >>> sentences("Lin lives here. Who asks?")
        ['Lin lives here.', 'Who asks?']
    """
    found: list[list[str]] = []
    tail = ""  # the end of the last sentence: nothing else of it is looked at again
    for line in text.splitlines():
        for place, part in enumerate(_SENTENCE_END.split(line.strip())):
            # "Dr.", "E." and the day of "8. März" end no sentence.
            day = bool(_DAY.search(tail)) and part[:3].casefold() in _MONTHS
            if place and (day or tail.endswith(_ABBREVIATED)):
                found[-1].append(part)
                tail = f"{tail} {part}"[-_TAIL:]
            elif part:
                found.append([part])
                tail = part[-_TAIL:]
    return [" ".join(parts) for parts in found]


_TAIL = 8
"""Characters at the end of a sentence that tell whether it goes on."""
_DAY = re.compile(r"\b\d{1,2}\.$")
_MONTHS = frozenset("jan feb mär apr mai jun jul aug sep okt nov dez".split())  # noqa: SIM905
_ABBREVIATED = tuple(
    [f" {letter}." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    + ["Dr.", "Mr.", "Mrs.", "Ms.", "Prof.", "St.", "No.", "Nr."]
)


def _passages(text: str, path: Path) -> Iterator[Document]:
    """Join paragraphs up to `PASSAGE` characters; a longer one is cut at its sentences."""
    parts: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        whole = paragraph.strip()
        pieces = [whole] if len(whole) <= PASSAGE else sentences(whole)
        for piece in filter(None, pieces):
            if parts and len(parts[-1]) + len(piece) < PASSAGE:
                parts[-1] += ("\n" if piece is whole else " ") + piece
            else:
                parts.append(piece)
    many = len(parts) > 1
    for place, part in enumerate(parts):
        source = f"{path}#{place + 1}" if many else str(path)
        yield Document(text=part, source=source, file=str(path), place=place)


def _plain_file(path: Path) -> Iterator[Document]:
    yield from _passages(decoded(path), path)


class _HtmlText(HTMLParser):
    """Collects the text of a page; blocks begin a new line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where text is none, and where a block begins."""
        del attrs
        self._silent += tag in ("script", "style")
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """Note where a block ends."""
        self._silent -= tag in ("script", "style") and self._silent > 0
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Keep text; spaces and line ends of the source are one space."""
        if not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))


def _html_file(path: Path) -> Iterator[Document]:
    parser = _HtmlText()
    parser.feed(decoded(path))
    parser.close()
    lines = (line.strip() for line in "".join(parser.parts).splitlines())
    yield from _passages("\n".join(line for line in lines if line), path)


def _table_file(path: Path) -> Iterator[Document]:
    text = io.StringIO(decoded(path), newline="")
    try:
        reader = csv.DictReader(text, delimiter=_TABLES[path.suffix.lower()], strict=True)
        for place, row in enumerate(reader):
            cells = {name: cell for name, cell in row.items() if name and isinstance(cell, str)}
            yield _row(cells, f"{path}:{reader.line_num}", str(path), place)
    except csv.Error as error:
        raise InputError(
            "invalid-table",
            what=f"{path}: not a valid table",
            why=str(error),
            fix="check the quotes, or convert the file to JSON Lines",
        ) from None


def _row_file(path: Path) -> Iterator[Document]:
    for place, row in enumerate(read_rows(str(path))):
        yield _row(row.value, row.source, str(path), place)


def _row(value: object, source: str, file: str, place: int) -> Document:
    """Read a row: a question with its answer, a text, or the columns of a table."""
    if not isinstance(value, dict):
        return Document(text=str(value), source=source, file=file, place=place)
    fields = _usual(value)
    try:
        record = to_record(fields, source)
    except InputError:
        record = None
    if record is not None:
        text = "\n".join([*(turn.content for turn in record.prompt), record.completion])
        asked = record if record.prompt else None
        return Document(text=text, source=source, file=file, place=place, record=asked)
    columns = tuple((str(name).strip(), _cell(cell)) for name, cell in value.items())
    columns = tuple((name, cell) for name, cell in columns if name and cell)
    text = "\n".join(f"{name}: {cell}" for name, cell in columns)
    return Document(text=text, source=source, file=file, place=place, columns=columns)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _usual(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Bring Alpaca's, ShareGPT's and other usual fields to prompt and completion."""
    fields = {str(key): field for key, field in value.items()}
    if isinstance(turns := fields.get("conversations"), list):
        roles = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
        messages = [
            {"role": roles.get(str(turn.get("from", turn.get("role"))), "system"),
             "content": turn.get("value", turn.get("content"))}
            for turn in turns
            if isinstance(turn, dict)
        ]  # fmt: skip
        return {"messages": messages}
    if "instruction" in fields and "output" in fields:
        asked = [str(fields["instruction"]), str(fields.get("input") or "")]
        question = "\n".join(part for part in asked if part.strip())
        return {**fields, "prompt": question, "completion": fields["output"]}
    for answer in ("output", "response"):
        if "input" in fields and answer in fields:
            return {**fields, "prompt": fields["input"], "completion": fields[answer]}
    return fields


def _needed(module: str, path: Path) -> Any:  # noqa: ANN401 - these libraries are not typed
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            "missing-extra",
            what=f"{path} needs a reader that is not installed",
            why=f"{path.suffix} files are read by the package {module}: {_EXTRA}",
            fix=f"{_EXTRA}, or save the file as text",
        ) from None


def _pdf_file(path: Path) -> Iterator[Document]:
    library = _needed("pypdf", path)
    try:
        pages = [page.extract_text() or "" for page in library.PdfReader(path).pages]
    except Exception as error:  # a foreign file may raise anything in the library
        raise InputError(
            "unreadable-pdf",
            what=f"{path}: not a readable PDF",
            why=f"the file is damaged or locked ({type(error).__name__})",
            fix="save it again without a password, or as text",
        ) from None
    text = "\n\n".join(pages)
    if not text.strip():
        raise InputError(
            "scanned-pdf",
            what=f"{path}: no text on any of its pages ({len(pages)})",
            why="the pages are pictures: a scan holds no letters to search",
            fix="run a text recognition (OCR) over it, and name the result",
        )
    yield from _passages(text, path)


def _docx_file(path: Path) -> Iterator[Document]:
    library = _needed("docx", path)
    try:
        document = library.Document(str(path))
        lines = [str(paragraph.text) for paragraph in document.paragraphs]
        for table in document.tables:
            lines += [" | ".join(str(cell.text) for cell in row.cells) for row in table.rows]
    except Exception as error:  # a foreign file may raise anything in the library
        raise InputError(
            "unreadable-docx",
            what=f"{path}: not a readable Word file",
            why=f"the file is damaged or of another kind ({type(error).__name__})",
            fix="save it again as .docx or as text",
        ) from None
    yield from _passages("\n\n".join(lines), path)


_READERS: Mapping[str, Callable[[Path], Iterator[Document]]] = {
    ".txt": _plain_file,
    ".md": _plain_file,
    ".html": _html_file,
    ".htm": _html_file,
    **dict.fromkeys(_TABLES, _table_file),
    **dict.fromkeys(_ROWS, _row_file),
    ".pdf": _pdf_file,
    ".docx": _docx_file,
}
