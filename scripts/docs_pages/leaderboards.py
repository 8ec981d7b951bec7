"""The committed leaderboards: what was run, what it shows, and what was not run."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs_pages.markdown import GENERATED, folded, table
from docs_pages.registries import MARKS, SUITES, read_json

_HEAD = """# Leaderboards

`expunge bench` wrote these tables; the JSON lies in `benchmarks/results`. Each names its hardware,
versions and tuning budget. Failures are listed like successes.

One data set on one small model does not rank methods in general. The command stands above each
table. Every axis runs from 0 to 1. On forgetting, privacy and robustness 1 is gold. The weakest
axis ranks.
"""

_NOT_RUN = (
    "more than two settings and one seed for the twelve methods on 40 records",
    "forget10 whole with settings tuned on it",
    "models above 135M parameters, and golds for them (see `scripts/make_tofu_targets.py`)",
    "MUSE's growing sets and folds in their published size of 889 articles",
    "tasks of lm-eval from the Hub; on files of the same questions it agrees with the utility sets",
)


def page(root: Path) -> str:
    """Return the text of the page."""
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        notes = tomllib.load(file)
    known = list(notes)
    found = sorted(
        (root / "benchmarks" / "results").glob("bench-*.json"),
        key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem),
    )
    parts = [GENERATED + _HEAD.rstrip()]
    for path in found:
        note = notes.get(path.stem, {"title": path.stem})
        parts.append(_board(read_json(path), note, path.relative_to(root)))
    missing = [
        name
        for name, entry in SUITES.items()
        if entry.forgets and not any(f"bench-{name}" in path.name for path in found)
    ]
    lines = [f"`{name}`: read and tested, no leaderboard is committed" for name in missing]
    parts.append("## Not run\n\n" + "\n".join(f"- {line}" for line in (*lines, *_NOT_RUN)))
    return "\n\n".join(parts) + "\n"


def _board(told: Mapping[str, Any], note: Mapping[str, str], path: Path) -> str:
    parts = [f"## {note['title']}", note.get("text", "").strip()]
    if command := note.get("command"):
        parts.append(f"```bash\n{command}\n```")
    parts += [table(*told["standings"]), MARKS.replace("*", "\\*", 1)]
    if told["numbers"][1]:
        parts.append(folded("The suite's own numbers", table(*told["numbers"])))
    if told["series"][1]:
        parts.append(folded("Fold after fold", table(*told["series"])))
    parts.append(folded("Chosen settings", table(*told["chosen"])))
    if told["failures"]:
        failed = "\n".join(f"- `{name}`: {why}" for name, why in told["failures"])
        parts.append(f"Failures:\n\n{failed}")
    parts.append(folded("How it was run", "\n\n".join((*told["sentences"], f"From `{path}`."))))
    return "\n\n".join(part for part in parts if part)
