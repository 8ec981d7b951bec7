"""Write one page per family of methods, and of wrappers, from the code itself.

    python scripts/make_method_pages.py

The pages cannot drift: a test writes them again and compares.
"""

import ast
import inspect
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.methods import EDITS, EVERY, METHODS, build
from expunge.methods.base import FAMILIES
from expunge.methods.describe import Description, describe
from expunge.optim.describe import TABLES, describe_wrapper
from expunge.utils.io import read_json

FOLDER = Path(__file__).parents[1] / "docs" / "methods"
MEASURED = FOLDER.parents[1] / "benchmarks" / "results" / "tofu_methods.json"
PUBLISHED = Path(__file__).with_name("published.toml")
PAPERS = FOLDER.parent / "papers.md"
USUAL = {
    "gamma": "Coefficient of the forget term.",
    "alpha": "Coefficient of the retain term.",
    "retain": "The retain term: nll, kl, jsd, argmax or none.",
}
"""What knobs of these names are in methods that train, where they do not say otherwise."""
OU = (
    "OU: the reproduction of OpenUnlearning (arXiv:2506.12618), all methods at one default: lr "
    "1e-5, 10 epochs, batch 32. FQ is forget quality, a p-value; MU is model utility."
)
GIBBERISH = 0.5
"""Share of answers from which on a method is marked: its output is gibberish."""
COLUMNS = (
    "method",
    "forget ES",
    "gold distance",
    "retain p",
    "refusals",
    "gibberish",
    "steps",
    "s",
    "GiB",
)


def pages() -> dict[str, str]:
    """Return the text of every page by file name."""
    every = [describe(name, build(name, {})) for name in EVERY]
    found = {
        f"{family}.md": _family(family, [each for each in every if each.family == family])
        for family in FAMILIES
    }
    measured = {"measured.md": _measured(read_json(MEASURED))} if MEASURED.is_file() else {}
    return {**found, "wrappers.md": _wrappers(), **measured}


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What is known of a method beside its file."""

    fails: str
    published: dict[str, str]
    """Knob to the value in the authors' code."""
    results: list[str]
    commands: list[str]
    """Flags with which it runs as its paper says, from the page of papers."""


def published() -> dict[str, Published]:
    """Return what `published.toml` and the page of papers say of each method.

    Raises:
        KeyError: An entry lacks how the method fails, or what was reported.
        TypeError: It has a key that is not known.
    """
    with PUBLISHED.open("rb") as file:
        entries = tomllib.load(file)
    papers = PAPERS.read_text(encoding="utf-8")
    return {
        name: Published(
            **{"published": {}, **entry},
            commands=re.findall(rf"`(--method {name}(?: [^`]*)?)`", papers),
        )
        for name, entry in entries.items()
    }


def meanings(kind: type) -> dict[str, str]:
    """Return what the docstrings below its fields say of the knobs of a method."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        if parent.__module__.startswith("expunge.methods"):
            (tree,) = ast.parse(inspect.cleandoc(inspect.getsource(parent))).body
            for field, text in zip(tree.body, tree.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    words = " ".join(ast.literal_eval(text.value).split())
                    found[field.target.id] = words.replace("|", r"\|")
    return found


def _family(family: str, members: list[Description]) -> str:
    known = published()
    parts = [f"# Methods: {family}\n\nWhat its members share: they {FAMILIES[family]}."]
    parts += [
        _method(member, known[member.name])
        for member in sorted(members, key=lambda member: member.name)
    ]
    if any("(OU" in result for member in members for result in known[member.name].results):
        parts.append(OU)
    if MEASURED.is_file() and family != "guard":  # no guard is in that table
        parts.append("What they did here, all at their defaults: [measured.md](measured.md).")
    return "\n\n".join(parts) + "\n"


def _method(found: Description, known: Published) -> str:
    parts = [
        f"## `{found.name}`",
        f"Choose it: {found.advice}.",
        f"- reads: {', '.join(found.data)}\n"
        f"- keeps of the original: {', '.join(found.keeps) or 'nothing'}\n"
        f"- cost: {found.cost}\n"
        f"- as published: {'; '.join(f'`{flags}`' for flags in known.commands)}",
        found.formula,
        f"Fails: {known.fails}",
    ]
    if found.defaults:
        parts.append(_knobs(found, known))
    if known.results:
        parts.append("Reported:\n\n" + "\n".join(f"- {result}" for result in known.results))
    return "\n\n".join(parts)


def _knobs(found: Description, known: Published) -> str:
    usual = USUAL if found.name in METHODS else {}
    about = {**usual, **meanings(EVERY[found.name])}
    rows = [
        f"| `{knob}` | {value if value != '' else 'empty'} | {known.published.get(knob, '')} "
        f"| {about.get(knob, 'see the formula')} |"
        for knob, value in found.defaults
    ]
    head = ["| knob | default | published | what it is |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _wrappers() -> str:
    parts = [
        "# Wrappers\n\nThey go with every method that trains; masks rank weights, so all but "
        "`memflex` need `--full`."
    ]
    for table, (kinds, meaning) in TABLES.items():
        parts.append(f"## [{table}]\n\n{meaning.capitalize()}: `--set {table}.name=NAME`.")
        for name in kinds:
            found = describe_wrapper(table, name)
            knobs = ", ".join(f"`{knob}` {value}" for knob, value in found.defaults) or "none"
            parts.append(f"### `{name}`\n\n{found.advice}.\n\n- knobs: {knobs}\n\n{found.formula}")
    return "\n\n".join(parts) + "\n"


def _measured(found: dict[str, Any]) -> str:
    """Return the table of `benchmarks/tofu_methods.py`, closest to gold first, gibberish last."""
    original, *golds = (line for line in found["models"] if not line["family"])
    methods = sorted(
        (line for line in found["models"] if line["family"]),
        key=lambda line: (line["gibberish"] > GIBBERISH, line["gold_distance"]),
    )
    rows = [_measured_row(line) for line in (original, *golds, *methods)]
    failed = [f"- `{name}` did not run: {why}" for name, why in found["failed"].items()]
    there = {line["row"]["model"] for line in methods} | set(found["failed"])
    missing = [name for name in (*METHODS, *EDITS) if name not in there]
    failed += [f"- `{name}` has not been run yet" for name in missing]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return "\n".join(
        [
            "# Methods: measured\n",
            "Every method but the guards once at its defaults on the first 40 records of TOFU "
            "forget10, with SmolLM2-135M that was trained on all of TOFU; nothing was tuned for "
            "this table. ES is extraction strength, p the normalised answer probability, brackets "
            "are 95 % bootstrap "
            "intervals over records. Retain records of the table were not trained on. Gold "
            "distance: mean over forget records of the difference to two golds in mean "
            "log-probability, nats per token; a gold's is its distance to the other. Of 20 greedy "
            "answers to forget questions, refusals say that they do not know; gibberish is, of the "
            "others, empty, a loop, or over 6 nats per token under the original. Memory is that "
            "of the whole process.\n",
            f"`{found['command']}`, {found['threads']} threads, {versions}. {found['note']}\n",
            f"| {' | '.join(COLUMNS)} |",
            f"|{'---|' * len(COLUMNS)}",
            *rows,
            *(["", *failed] if failed else []),
            "",
        ]
    )


def _measured_row(line: dict[str, Any]) -> str:
    def cell(estimate: list[float]) -> str:
        return f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"

    row = line["row"]
    broken = f"{line['gibberish']:.0%}{' **gibberish**' if line['gibberish'] > GIBBERISH else ''}"
    done = f"{line['steps']} of {line['planned']}" if line["planned"] else "–"  # noqa: RUF001
    cost = (done, f"{line['seconds']:.0f}", f"{line['peak_gib']:.1f}")
    cells = (
        f"`{row['model']}`" if line["family"] else row["model"],
        cell(row["forget_strength"]),
        f"{line['gold_distance']:.2f}",
        cell(row["retain_probability"]),
        f"{line['refusals']:.0%}",
        broken,
        *(cost if line["family"] else ("–", "–", "–")),  # noqa: RUF001
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
