"""Write docs/metrics.md, the page of all metrics, from the code itself.

    python scripts/make_metric_page.py

The page cannot drift: a test writes it again and compares.
"""

import inspect
import sys
from pathlib import Path

from expunge.methods.describe import flowing
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry import CATALOGUE, Entry, named

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
TRAPS = Path(__file__).parent / "metric_traps.md"

_HEAD = """# Metrics

Each is a pure function of stored evidence. `expunge metrics` lists them, `expunge metrics NAME`
shows one, `expunge compat` reads other tools' results and counts a run the way they count. What a
metric needs and does not get makes it `not computable`, with the need as the reason; there are no
default values. Membership scores have one sign: higher = more likely a member.

`by` says who computes it: most are scored by audits, where records give what they need; some are
read from logs, run by a script, or there for callers of the library. Cost is per record and model.
TF: one teacher-forced pass; GEN: one greedy answer.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    for axis in (*Axis, None):
        parts.append(f"## {axis.value.capitalize() if axis else 'Efficiency'}\n")
        modules: dict[str, list[Entry]] = {}
        for entry in CATALOGUE:
            if entry.axis is axis:
                modules.setdefault(entry.of.__module__, []).append(entry)
        for module, entries in modules.items():
            parts.append(flowing(inspect.getdoc(sys.modules[module]) or "") + "\n")
            parts += [_entry(entry) for entry in entries]
    return "\n".join(parts) + "\n" + TRAPS.read_text(encoding="utf-8")


def _entry(entry: Entry) -> str:
    text = flowing(inspect.getdoc(entry.of) or "").replace("\n\n", "\n\n  ")
    needs = ", ".join(entry.needs) or "nothing more"
    gated = "read by a gate" if entry.gated else "shown for comparison"
    facts = (named(entry), gated, f"cost {entry.cost}", f"needs {needs}", f"by {entry.where}")
    return f"- **`{entry.id}`** ({'; '.join(facts)}). {text}\n"


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
