"""The catalogue of metrics, from the registry."""

import inspect
import sys

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import METRICS, Axis, Metric, direction, flowing

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
    parts = [GENERATED + _HEAD]
    for axis in (*Axis, None):
        entries = [entry for entry in METRICS if entry.axis is axis]
        parts.append(f"## {axis.value.capitalize() if axis else 'Efficiency'}")
        head = ("metric", "better", "gate", "cost", "needs", "computed by")
        parts.append(table(head, [_row(entry) for entry in entries]))
        modules: dict[str, list[Metric]] = {}
        for entry in entries:
            modules.setdefault(entry.of.__module__, []).append(entry)
        for module, own in modules.items():
            parts.append(f"### {', '.join(f'`{entry.id}`' for entry in own)}")
            parts.append(flowing(inspect.getdoc(sys.modules[module]) or ""))
            parts += [_definition(entry) for entry in own]
    return "\n\n".join(parts) + "\n"


def _row(entry: Metric) -> tuple[object, ...]:
    return (
        f"`{entry.id}`",
        direction(entry).removesuffix(" is better").removesuffix(" is best"),
        "yes" if entry.gated else "",
        entry.cost,
        ", ".join(entry.needs) or "nothing more",
        entry.where,
    )


def _definition(entry: Metric) -> str:
    text = flowing(inspect.getdoc(entry.of) or "").replace("\n\n", "\n\n    ")
    return f"- **`{entry.id}`**: {text}"
