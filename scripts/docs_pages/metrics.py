"""The catalogue of metrics, from the registry."""

import inspect
import re
import textwrap

from docs_pages.markdown import GENERATED, papers, table
from docs_pages.registries import METRICS, Axis, Metric, flowing

_HEAD = """# Metrics

A metric is a pure function of stored evidence. `expunge metrics NAME` prints one definition.
A missing need makes a metric `not computable`, with the need as the reason.
[Differences from published code](differences.md) lists where other tools count otherwise.

- **Gate**: a gate of the verdict reads it. All others are shown for comparison.
- **Cost** is per record and model. TF is one teacher-forced pass, GEN one greedy answer.
- Membership scores have one sign: higher means more likely a member.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [GENERATED + _HEAD.rstrip()]
    for axis in (*Axis, None):
        entries = [entry for entry in METRICS if entry.axis is axis]
        parts.append(f"## {axis.value.capitalize() if axis else 'Efficiency'}")
        head = ("metric", "better", "gate", "cost", "needs", "computed by")
        parts.append(table(head, [_row(entry) for entry in entries]))
        parts += [_section(entry) for entry in entries]
    return "\n\n".join(parts) + "\n"


def _row(entry: Metric) -> tuple[object, ...]:
    return (
        f"[`{entry.id}`](#{entry.id})",
        entry.direction.removesuffix(" is better").removesuffix(" is best"),
        "yes" if entry.gated else "",
        entry.cost,
        ", ".join(entry.needs) or "nothing more",
        entry.where,
    )


def _section(entry: Metric) -> str:
    title = f"### `{entry.id}` {{ #{entry.id} }}"
    said = [f"**{entry.title}.** {entry.meaning}", definition(entry.of)]
    if entry.source:
        said.append(f"Source: {papers(entry.source) or entry.source}.")
    return "\n\n".join((title, *said))


def definition(of: object) -> str:
    """Return the docstring of a function without its arguments and errors."""
    first, *others = re.split(
        r"\n\n(?=(?:Args|Returns|Raises|Yields|Example):\n)", inspect.getdoc(of) or ""
    )
    parts = [flowing(first)]
    for each in others:
        name, _, text = each.partition(":\n")
        if name == "Returns":
            parts.append(f"Returns: {' '.join(textwrap.dedent(text).split())}")
        elif name == "Example":
            parts.append(f"```pycon\n{textwrap.dedent(text)}\n```")
    return "\n\n".join(parts)
