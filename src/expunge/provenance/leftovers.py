"""Leftovers: which files of a folder still hold texts of the records that were to be forgotten."""

import html
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge.evidence.store import Item
from expunge.reporting.redaction import Redactor

_SHORTEST = 4
"""Characters: a line of a record that is shorter is no trace of it."""
_PAGES = frozenset({".html", ".md"})
"""Ends of the names of files of sentences: a name inside a longer word is none of theirs."""
_NUMBERS = frozenset({".safetensors", ".bin"})
"""Ends of the names of files that hold numbers alone: only their names are read."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What tells of forget records: lines of their texts, their facts and their subjects.

    Facts and subjects of fewer than four letters, or of common words alone, tell of nobody.
    """

    lines: frozenset[str]
    names: Redactor

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Traces":
        """Return what tells of the forget records among some items."""
        records = [item for item in items if item.split == "forget"]
        texts = (text for item in records for text in (item.question, item.answer))
        lines = (line.strip() for text in texts for line in _plain(text).splitlines())
        return cls(frozenset(line for line in lines if len(line) >= _SHORTEST), Redactor(records))

    def tell(self, text: str, *, page: bool = False) -> bool:
        """Tell whether a text holds one of them; of a page, whether its sentences do."""
        text = _plain(text)
        named = self.names.names(text) if page else self.names.label(text) != text
        return named or any(line in text for line in self.lines)

    def holders(self, folder: Path) -> Iterator[Path]:
        """Yield the files below a folder that hold one of them, or whose names do, sorted."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace")
            page = path.suffix in _PAGES
            if self.tell(name) or (
                path.suffix not in _NUMBERS and self.tell(_read(path), page=page)
            ):
                yield path


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _read(path: Path) -> str:
    """Return the text of a file, with what HTML and JSON escape spelled out beside it."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    plain = html.unescape(text) if "&" in text else ""
    return f"{text}\n{plain}"
