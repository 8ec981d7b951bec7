"""The catalogue of methods: one table, one page for each family, and what was measured."""

import ast
import inspect
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs_pages.markdown import GENERATED, sentence, table
from docs_pages.registries import (
    EDITS,
    EVERY,
    METHOD_FAMILIES,
    METHODS,
    Description,
    build,
    describe,
    read_json,
)

USUAL = {
    "gamma": "Coefficient of the forget term.",
    "alpha": "Coefficient of the retain term.",
    "retain": "The retain term: nll, kl, jsd, argmax or none.",
}
"""What hyperparameters of these names are where a method does not say otherwise."""
OU = (
    "OU: the reproduction of OpenUnlearning (arXiv:2506.12618), all methods at one default: lr "
    "1e-5, 10 epochs, batch 32. FQ is forget quality, a p-value; MU is model utility."
)
GIBBERISH = 0.5
"""Share of unreadable answers from which on a method is marked."""
NOT_MEASURED = "–"  # noqa: RUF001 - a dash that stands for nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What is known of a method beside its file; everything may be missing."""

    fails: str = ""
    published: dict[str, str]
    """Hyperparameter to the value in the authors' code."""
    results: list[str]
    commands: list[str]
    """Flags with which it runs as in its paper, from the page of papers."""


def pages(root: Path) -> dict[str, str]:
    """Return the text of the table and of every family by file name."""
    every = [describe(name, build(name, {})) for name in EVERY]
    known = published(root)
    families = {
        family: sorted((each for each in every if each.family == family), key=lambda m: m.name)
        for family in METHOD_FAMILIES
    }
    found = {f"{name}.md": _family(name, members, known) for name, members in families.items()}
    return {"index.md": _index(families), **found}


def published(root: Path) -> dict[str, Published]:
    """Return what `published.toml` and the page of papers say of each method.

    Raises:
        TypeError: An entry has a key that is not known.
    """
    with Path(__file__).with_name("published.toml").open("rb") as file:
        entries: dict[str, dict[str, Any]] = tomllib.load(file)
    papers = (root / "docs" / "catalogue" / "papers.md").read_text(encoding="utf-8")
    return {
        name: Published(
            **{"published": {}, "results": [], **entries.get(name, {})},
            commands=re.findall(rf"`(--method {name}(?: [^`]*)?)`", papers),
        )
        for name in EVERY
    }


def _index(families: dict[str, list[Description]]) -> str:
    rows = [
        (f"[`{each.name}`]({family}.md#{each.name})", family, each.advice, ", ".join(each.data))
        for family, members in families.items()
        for each in members
    ]
    count = len(rows)
    text = (
        f"# Methods\n\nexpunge has {count} methods in {len(families)} families. "
        "[Choose a method](../../how-to/choose-a-method.md) helps to pick one. "
        "`expunge methods NAME` prints formula and hyperparameters.\n\n"
    )
    shared = table(
        ("family", "what its members share"),
        [
            (f"[{name}]({name}.md)", f"they {about}")
            for name, about in METHOD_FAMILIES.items()
            if name in families
        ],
    )
    body = table(("method", "family", "choose it", "reads"), rows)
    return f"{GENERATED}{text}{shared}\n\n## All methods\n\n{body}\n"


def _family(family: str, members: list[Description], known: dict[str, Published]) -> str:
    parts = [f"{GENERATED}# Methods: {family}\n\nMembers {METHOD_FAMILIES[family]}."]
    parts += [_method(member, known[member.name]) for member in members]
    if any("(OU" in result for member in members for result in known[member.name].results):
        parts.append(OU)
    if family != "guard":  # no guard is in that table
        parts.append(
            "[Every method at its defaults](../../results/methods.md) shows what they did on TOFU."
        )
    return "\n\n".join(parts) + "\n"


def _method(found: Description, known: Published) -> str:
    facts = [
        f"- reads: {', '.join(found.data)}",
        f"- keeps of the original: {', '.join(found.keeps) or 'nothing'}",
        f"- cost: {found.cost}",
    ]
    if known.commands:
        facts.append(f"- as published: {'; '.join(f'`{flags}`' for flags in known.commands)}")
    parts = [
        f"## `{found.name}` {{ #{found.name} }}",
        sentence(found.advice),
        "\n".join(facts),
        found.formula,
    ]
    if known.fails:
        parts.append(f"**Known failure.** {known.fails}")
    if found.defaults:
        parts.append(_hyperparameters(found, known))
    if known.results:
        parts.append("Reported:\n\n" + "\n".join(f"- {result}" for result in known.results))
    return "\n\n".join(parts)


def _hyperparameters(found: Description, known: Published) -> str:
    usual = USUAL if found.name in METHODS else {}
    about = {**usual, **meanings(EVERY[found.name])}
    rows = [
        (
            f"`{name}`",
            value if value != "" else "empty",
            known.published.get(name, ""),
            about.get(name, "see the formula"),
        )
        for name, value in found.defaults
    ]
    return table(("hyperparameter", "default", "published", "what it is"), rows)


def meanings(kind: type) -> dict[str, str]:
    """Return what the docstrings below its fields say of the hyperparameters of a method."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        if parent.__module__.startswith("expunge.methods"):
            (tree,) = ast.parse(inspect.cleandoc(inspect.getsource(parent))).body
            assert isinstance(tree, ast.ClassDef)
            for field, text in zip(tree.body, tree.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    assert isinstance(field.target, ast.Name)
                    found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


_MEASURED = """# Every method at its defaults

Every method but the guards ran once, at its defaults, on the first 40 records of TOFU forget10.
The model is SmolLM2-135M trained on all of TOFU. Nothing was tuned for this table.

- Most methods hardly move this small model: the gold distance stays above 2.
- `kto`, `influence` and `repselect` come closest to gold with a retain p above 0.70.
- `lunar`, `undo`, `task_vector` and `ties` come closer, but lower retain p to 0.47 or less.
- `ssd` breaks the model.

How to read the table:

- **ES** is extraction strength, **p** the answer probability. Brackets are 95 % bootstrap
  intervals over records.
- **Gold distance** is the mean difference to two retrained models (golds) in log-probability,
  nats per token. A gold's value is its distance to the other gold.
- **Refusals** and **gibberish** are shares of 20 greedy answers to forget questions.
- Retain records of the table were not trained on. Memory is that of the whole process.

The rows are ordered by gold distance; methods that break the model come last.
"""


def measured(root: Path) -> str:
    """Return the table of `benchmarks/tofu_methods.py`, closest to gold first, gibberish last."""
    found = read_json(root / "benchmarks" / "results" / "tofu_methods.json")
    original, *golds = (line for line in found["models"] if not line["family"])
    methods = sorted(
        (line for line in found["models"] if line["family"]),
        key=lambda line: (line["gibberish"] > GIBBERISH, line["gold_distance"]),
    )
    failed = [f"- `{name}` did not run: {why}" for name, why in found["failed"].items()]
    there = {line["row"]["model"] for line in methods} | set(found["failed"])
    failed += [
        f"- `{name}` has not been run yet" for name in (*METHODS, *EDITS) if name not in there
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    head = ("method", "forget ES", "gold distance", "retain p", "refusals", "gibberish")
    body = table(
        (*head, "steps", "s", "GiB"),
        [_measured_row(line) for line in (original, *golds, *methods)],
    )
    command = f"Command: `{found['command']}`, {found['threads']} thread(s), {versions}."
    note = f"Note on the machines: {found['note']}"
    tail = ["\n".join(failed)] if failed else []
    return GENERATED + "\n\n".join([_MEASURED.rstrip(), command, note, body, *tail]) + "\n"


def _measured_row(line: dict[str, Any]) -> tuple[object, ...]:
    def cell(estimate: list[float]) -> str:
        return f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"

    row = line["row"]
    broken = f"{line['gibberish']:.0%}{' **gibberish**' if line['gibberish'] > GIBBERISH else ''}"
    done = f"{line['steps']} of {line['planned']}" if line["planned"] else NOT_MEASURED
    cost = (done, f"{line['seconds']:.0f}", f"{line['peak_gib']:.1f}")
    return (
        f"`{row['model']}`" if line["family"] else row["model"],
        cell(row["forget_strength"]),
        f"{line['gold_distance']:.2f}",
        cell(row["retain_probability"]),
        f"{line['refusals']:.0%}",
        broken,
        *(cost if line["family"] else (NOT_MEASURED,) * 3),
    )
