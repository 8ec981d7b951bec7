"""The catalogue: what can be chosen by name, known without torch.

`catalogue.json` is written from the tables of the code by `scripts/make_docs.py`, and a test sees
when it is stale. Formulas are not in it: each is read off the file of its method. Neither this file
nor the levels of an audit need pydantic, so `--help` does not load it.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from expunge.utils.io import read_json

_FILE = Path(__file__).with_suffix(".json")
_PACKAGE = Path(__file__).parents[1]

Level = Literal["quick", "standard", "paranoid"]
"""How much an audit tries: minutes, an hour or two, or most of a day on two cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a user chooses by name."""

    name: str
    advice: str
    defaults: tuple[tuple[str, object], ...]
    file: str
    """Path of its file, below the package where it belongs to it."""

    @property
    def formula(self) -> str:
        """The text of its file."""
        return text_of(self.file)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodDescription(Description):
    """A method as a user chooses it."""

    family: str
    data: tuple[str, ...]
    """Sets that it reads."""
    keeps: tuple[str, ...]
    """What is computed from the original before training and kept."""
    cost: str
    """Forward-pass equivalents (F) for one record of each set in a step, or passes of an edit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrapperDescription(Description):
    """A wrapper as a user chooses it."""

    table: str
    """Table of the request file that names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """What can be chosen by name."""

    families: Mapping[str, str]
    """Families of methods, and what the members of each have in common."""
    methods: tuple[MethodDescription, ...]
    tables: Mapping[str, str]
    """Tables of a request file that name a wrapper, and what each decides."""
    wrappers: tuple[WrapperDescription, ...]
    attacks: tuple[str, ...]
    asked_of_few: Mapping[str, str]
    """Attacks that level quick makes on a few facts only: budget and choices (`repr`) by name."""
    suites: tuple[str, ...]


@cache
def catalogue() -> Catalogue:
    """Return the catalogue of this version.

    Example:
        >>> "npo" in [method.name for method in catalogue().methods]
        True
    """
    found = read_json(_FILE)
    return Catalogue(
        families=found["families"],
        methods=tuple(MethodDescription(**_with_tuples(row)) for row in found["methods"]),
        tables=found["tables"],
        wrappers=tuple(WrapperDescription(**_with_tuples(row)) for row in found["wrappers"]),
        attacks=tuple(found["attacks"]),
        asked_of_few=found["asked_of_few"],
        suites=tuple(found["suites"]),
    )


def file_of(module_file: str) -> str:
    """Return the path of a module's file as a description holds it."""
    path = Path(module_file)
    return path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else str(path)


def text_of(file: str) -> str:
    """Return the docstring of a file, its paragraphs on one line each.

    Args:
        file: As `file_of` returns it.
    """
    tree = ast.parse((_PACKAGE / file).read_text(encoding="utf-8"))
    return flowing(ast.get_docstring(tree) or "")


def flowing(text: str) -> str:
    """Join the lines of each paragraph; formulas and lists, which are marked, keep theirs."""
    paragraphs = [
        part if part.startswith("    ") else re.sub(r"\n(?! {2,}|- )", " ", part)
        for part in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs)


def _with_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of JSON with the tuples that it was written from."""
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return {**found, "defaults": tuple((name, value) for name, value in row["defaults"])}
