"""Write one page per family of methods, and of wrappers, from the code itself.

    python scripts/make_method_pages.py

The pages cannot drift: a test writes them again and compares.
"""

import inspect
import sys
from dataclasses import fields
from pathlib import Path

from expunge.methods import EDITS, METHODS, build
from expunge.methods.describe import Description, describe
from expunge.methods.terms import FAMILIES
from expunge.wrappers import COMBINE, MASKS, OPTIMISERS, ROBUST

FOLDER = Path(__file__).parents[1] / "docs" / "methods"
TABLES = {
    "robust": (ROBUST, "How the forget gradient is taken: `--set robust.name=NAME`."),
    "combine": (COMBINE, "How forget and retain gradients are joined: `--set combine.name=NAME`."),
    "mask": (MASKS, "Which weights may move: `--set mask.name=NAME`."),
    "optimiser": (OPTIMISERS, "What steps the weights: `--set optimiser.name=NAME`."),
}


def pages() -> dict[str, str]:
    """Return the text of every page by file name."""
    every = [describe(name, build(name, {})) for name in (*METHODS, *EDITS)]
    found = {
        f"{family}.md": _family(family, [each for each in every if each.family == family])
        for family in FAMILIES
    }
    return {**found, "wrappers.md": _wrappers()}


def _family(family: str, members: list[Description]) -> str:
    parts = [f"# Methods: {family}\n\nWhat its members share: they {FAMILIES[family]}."]
    parts += [_method(member) for member in sorted(members, key=lambda member: member.name)]
    return "\n\n".join(parts) + "\n"


def _method(found: Description) -> str:
    knobs = ", ".join(f"`{knob}` {value}" for knob, value in found.defaults) or "none"
    return (
        f"## `{found.name}`\n\n"
        f"Choose it: {found.advice}.\n\n"
        f"- reads: {', '.join(found.data)}\n"
        f"- keeps of the original: {', '.join(found.keeps) or 'nothing'}\n"
        f"- cost: {found.cost}\n"
        f"- knobs: {knobs}\n\n"
        f"{found.formula}"
    )


def _wrappers() -> str:
    parts = ["# Wrappers\n\nThey compose with every method that trains."]
    for table, (kinds, meaning) in TABLES.items():
        parts.append(f"## [{table}]\n\n{meaning}")
        for name, kind in kinds.items():
            knobs = ", ".join(f"`{field.name}` {field.default}" for field in fields(kind))
            text = inspect.getdoc(sys.modules[kind.__module__]) or ""
            parts.append(f"### `{name}`\n\n{kind.advice}.\n\n- knobs: {knobs or 'none'}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
