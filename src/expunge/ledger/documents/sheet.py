"""Sheets: a document as blocks, written as Markdown, HTML, PDF or JSON.

The library for PDF (`fpdf2`) is optional. Its built-in fonts know no minus sign, so the pages use
DejaVu Sans, which comes with matplotlib.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import InputError, UsageError
from expunge.reporting.claims import missing_words, overstated
from expunge.utils.io import json_text, printable, write_bytes

if TYPE_CHECKING:
    from fpdf import FPDF

FORMATS = (".md", ".html", ".pdf", ".json")
"""Endings of the files that a document can be written to."""

_SIZES = (10.5, 10.0, 9.5, 9.0, 8.5, 8.0)
"""Sizes of type, in points, that are tried until a page holds all."""
_MARGIN = 20.0
_REGULAR, _BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"
_STYLE = """
body { font: 15px/1.45 "DejaVu Sans", Verdana, sans-serif; color: #1a1a1a; margin: 2.5rem auto;
  max-width: 46rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 1.8rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; font-size: .8rem; }
th, td { border-bottom: 1px solid #bbb; padding: .3rem .4rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
@media print { body { margin: 0; } }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetHeading:
    """A heading within a document."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetText:
    """A paragraph; each of its lines begins anew."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetList:
    """A list of short items."""

    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetTable:
    """A table; `widths` are the shares of its columns, in percent."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]


SheetBlock = SheetHeading | SheetText | SheetList | SheetTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A document.

    Example:
        >>> sheet = Sheet(title="Letter", day=date(2026, 12, 1), blocks=(SheetText(text="1 < 2"),))
        >>> sheet.markdown()
        '# Letter\\n\\n1 &lt; 2\\n'
    """

    title: str
    day: date
    """The date of the document; the same files and the same day give the same bytes."""
    blocks: tuple[SheetBlock, ...]
    one_page: bool = False
    """Whether its PDF must not be longer than a page."""

    def text(self) -> str:
        """Return the words alone, a block a line."""
        return "\n".join((self.title, *(part for block in self.blocks for part in _texts(block))))

    def markdown(self) -> str:
        """Return the document as Markdown; nothing in it is taken for a mark or a tag."""
        return "\n\n".join([f"# {_marked(self.title)}", *map(_markdown, self.blocks)]) + "\n"

    def html(self) -> str:
        """Return the document as one HTML page that loads nothing."""
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        head = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        )
        body = "\n".join(map(_html, self.blocks))
        return f"{head}<h1>{escape(self.title)}</h1>\n{body}\n</body>\n</html>\n"

    def pdf(self) -> bytes:
        """Return the document as PDF, A4.

        Raises:
            UsageError: The library for PDF is not there, or one page does not hold the document.
        """
        require_pdf()
        _require_glyphs(self)
        for size in _SIZES if self.one_page else _SIZES[3:4]:
            drawn = _drawn(self, size)
            if drawn.pages_count == 1 or not self.one_page:
                return bytes(drawn.output())
        raise UsageError(
            "too-long",
            what="the document does not fit on one page",
            why="what it must say leaves no more room for what you add",
            fix="shorten the longest option, or write it as .md or .html",
        )


def require_supported(sheet: Sheet, *, level: str, passed: bool) -> None:
    """Refuse a document that says more than the claim of its run supports, or leaves out a duty.

    Args:
        sheet: The document.
        level: The claim class.
        passed: Whether the verdict is a pass.

    Raises:
        InputError: A sentence asserts too much, or what the class obliges to say is missing.
    """
    text = sheet.text()
    found = overstated(text, level=level, passed=passed)
    if not found and not missing_words(text, level=level):
        return
    raise InputError(
        "says-too-much",
        what=f"a document would say: {found[0]}" if found else "a document leaves out a limit",
        why=f"a claim of class {level} does not support that"
        if found
        else f"a claim of class {level} obliges it to name what is not shown",
        fix="verify the run with `expunge verify`: its results name what no audit writes",
    )


def require_format(path: Path) -> None:
    """Refuse a file whose ending names no format of a document.

    Raises:
        UsageError: It ends otherwise, or in .pdf where the library for that is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            "unknown-format",
            what=f"{path} ends in none of {', '.join(FORMATS)}",
            why="the ending chooses the format of the document",
            fix=f"name for example {path.with_suffix('.pdf')}",
        )
    if path.suffix.lower() == ".pdf":
        require_pdf()


def require_pdf() -> None:
    """Refuse to write PDF where the library for it is missing.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("fpdf") is None:
        raise UsageError(
            "no-pdf",
            what="fpdf2 is not installed",
            why="PDF is written with that library, which is optional",
            fix="pip install 'expunge[pdf]', or write the document as .html or .md",
        )


def write_sheet(sheet: Sheet, path: Path, *, data: Mapping[str, Any]) -> None:
    """Write a document to a file, for its owner only, in the format that its ending names.

    Args:
        sheet: The document.
        path: The file.
        data: What a file of JSON holds instead.

    Raises:
        UsageError: As `require_format`, and as `Sheet.pdf`.
        InputError: The folder cannot be written to.
    """
    require_format(path)
    kind = path.suffix.lower()
    if kind == ".pdf":
        made = sheet.pdf()
    else:
        texts = {".md": sheet.markdown, ".html": sheet.html, ".json": lambda: json_text(dict(data))}
        made = texts[kind]().encode()
    try:
        write_bytes(path, made, owner_only=True)
    except OSError as error:
        raise InputError(
            "not-written",
            what=f"could not write {path}",
            why=f"the system refused it ({error.strerror})",
            fix="name a file in a folder that you may write to, with --out",
        ) from error


def one_line(text: str) -> str:
    """Return what an operator wrote as one line without control characters.

    Example:
        >>> one_line("  Ms   Ada\\nLovelace ")
        'Ms Ada Lovelace'
    """
    return printable(" ".join(text.split()))


def _texts(block: SheetBlock) -> tuple[str, ...]:
    if isinstance(block, SheetTable):
        return ("\n".join(block.head), *("\n".join(row) for row in block.rows))
    if isinstance(block, SheetList):
        return block.items
    return (block.text,)


def _marked(text: str) -> str:
    """Escape what Markdown or HTML would take for marks."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", escape(text, quote=False))


def _markdown(block: SheetBlock) -> str:
    if isinstance(block, SheetHeading):
        return f"## {_marked(block.text)}"
    if isinstance(block, SheetText):
        return "  \n".join(_marked(line) for line in block.text.split("\n"))
    if isinstance(block, SheetList):
        return "\n".join(f"- {_marked(item)}" for item in block.items)
    rows = (block.head, ("---",) * len(block.head), *block.rows)
    return "\n".join(
        f"| {' | '.join(cell if cell == '---' else _marked(cell) for cell in row)} |"
        for row in rows
    )


def _html(block: SheetBlock) -> str:
    if isinstance(block, SheetHeading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, SheetText):
        return f"<p>{escape(block.text).replace(chr(10), '<br>')}</p>"
    if isinstance(block, SheetList):
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>"
    head = "".join(
        f'<th scope="col" style="width: {width}%">{escape(cell)}</th>'
        for cell, width in zip(block.head, block.widths, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in block.rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>"


def _fonts() -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path()) / "fonts" / "ttf"


def _require_glyphs(sheet: Sheet) -> None:
    """Refuse a PDF in which a character would be an empty box."""
    from fontTools.ttLib import TTFont

    words = (sheet.title, *(part for block in sheet.blocks for part in _texts(block)))
    known = TTFont(_fonts() / _REGULAR, lazy=True).getBestCmap() or {}
    missing = {each for text in words for each in text if ord(each) not in known} - {"\n"}
    if missing:
        raise UsageError(
            "no-glyph",
            what=f"the font of PDF files has no sign for {', '.join(sorted(missing))[:60]}",
            why="the name would be printed as empty boxes",
            fix="write the document as .html, which uses the fonts of the reader",
        )


def _drawn(sheet: Sheet, size: float) -> "FPDF":
    """Draw a document with one size of type."""
    from fpdf import FPDF

    class Numbered(FPDF):
        """Pages with their number at the foot, where there are several."""

        def footer(self) -> None:
            """Write the number of the page."""
            if not sheet.one_page:
                self.set_y(-_MARGIN * 0.6)
                self.set_font("sans", "", 7)
                self.cell(0, 4, f"Page {self.page_no()} of {{nb}}", align="R")

    pdf = Numbered(format="A4")
    pdf.set_creation_date(datetime.combine(sheet.day, time(), tzinfo=UTC))
    pdf.set_title(sheet.title)
    pdf.set_lang("en")
    pdf.set_margins(_MARGIN, _MARGIN * 0.8)
    pdf.set_auto_page_break(True, margin=_MARGIN * 0.8)
    pdf.add_font("sans", fname=_fonts() / _REGULAR)
    pdf.add_font("sans", style="B", fname=_fonts() / _BOLD)
    pdf.add_page()
    pdf.set_font("sans", "B", size * 1.5)
    pdf.multi_cell(0, None, sheet.title, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(size * 0.2)
    for block in sheet.blocks:
        _draw(pdf, block, size)
    return pdf


def _draw(pdf: "FPDF", block: SheetBlock, size: float) -> None:
    """Draw one block below those before."""
    height = size * 0.48  # in mm, for type in points
    if isinstance(block, SheetHeading):
        pdf.ln(height * 0.4)
        pdf.set_font("sans", "B", size * 1.1)
        pdf.multi_cell(0, height * 1.2, block.text, align="L", new_x="LMARGIN", new_y="NEXT")
        return
    pdf.set_font("sans", "", size)
    if isinstance(block, SheetTable):
        _draw_table(pdf, block, size)
    elif isinstance(block, SheetList):
        for item in block.items:
            text = f"\N{BULLET} {item}"
            pdf.multi_cell(0, height, text, align="L", new_x="LMARGIN", new_y="NEXT")
    else:
        pdf.multi_cell(0, height, block.text, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(height * 0.55)


def _draw_table(pdf: "FPDF", block: SheetTable, size: float) -> None:
    small = size * 0.8
    pdf.set_font("sans", "", small)
    with pdf.table(
        col_widths=block.widths,
        line_height=small * 0.48,
        text_align="LEFT",
        borders_layout="HORIZONTAL_LINES",
        v_align="TOP",
        padding=0.8,
    ) as table:
        for row in (block.head, *block.rows):
            table.row(row)
    pdf.set_font("sans", "", size)
