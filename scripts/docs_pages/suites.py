"""The catalogue of benchmarks, from the table of suites."""

import inspect
import sys

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import SUITES, flowing

_HEAD = """# Benchmarks

`expunge bench NAME` compares methods on a public benchmark. Files are checked against the published
counts. [Compare and tune methods](../how-to/compare-methods.md) shows the commands.

Suites that only ask stand beside another one: `--beside utility=FOLDER social=FOLDER`.
Tasks of lm-eval stand beside, too: `--beside lm-eval=TASK,TASK`.
"""


def page() -> str:
    """Return the text of the page."""
    rows = [
        (
            f"[`{name}`](#{name})",
            f"`{entry.hub}`" if entry.hub else "a folder",
            "forgets" if entry.forgets else "asks beside",
            ", ".join(f"`--{flag}`" for flag in entry.own_text),
            ", ".join(f"`{known.metric} {known.probe}`" for known in entry.known),
        )
        for name, entry in SUITES.items()
    ]
    head = ("suite", "data by default", "role", "your own text", "knowledge is read from")
    parts = [GENERATED + _HEAD.rstrip(), table(head, rows)]
    for name, entry in SUITES.items():
        text = flowing(inspect.getdoc(sys.modules[entry.load.__module__]) or "")
        parts.append(f"## `{name}` {{ #{name} }}\n\n{text}")
    return "\n\n".join(parts) + "\n"
