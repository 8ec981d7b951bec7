"""Where the cells of a matrix lie on disk."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter

from expunge.bench.row import FILE, Cell, Row, read_row
from expunge.files import read_json, write_json

CELL = "cell.json"
_adapter = TypeAdapter(Cell)


def cell_folder(matrix: Path, cell: Cell) -> Path:
    """Return the folder of a cell."""
    return matrix / "cells" / cell.id


def lay_out(matrix: Path, cell: Cell) -> Path:
    """Make the folder of a cell with the file that says what it is."""
    folder = cell_folder(matrix, cell)
    if not (folder / CELL).is_file():
        write_json(folder / CELL, _adapter.dump_python(cell, mode="json"))
    return folder


def read_cell(folder: Path) -> Cell:
    """Read what a cell is."""
    return _adapter.validate_python(read_json(folder / CELL))


def rows_of(matrix: Path) -> list[Row]:
    """Read all rows of a matrix, by name of their cells."""
    return list(_rows(matrix))


def _rows(matrix: Path) -> Iterator[Row]:
    for path in sorted((matrix / "cells").glob(f"*/{FILE}")):
        row = read_row(path.parent)
        if row is not None:
            yield row
