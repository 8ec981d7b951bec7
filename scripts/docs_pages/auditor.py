"""How far the audit can be trusted, from what was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import THRESHOLD, VALIDITY, read_json

_HEAD = """# Auditor validation

An audit is software and can be wrong. This page shows how often, good and bad.
Each part names the script that measured it.
"""

_CHEATS = """## Models that are not what they seem

`benchmarks/cheats.py`: SmolLM2-135M, {facts} facts about one person, level quick, two golds.
A short script builds each model (`benchmarks/planted.py`), and an audit judges it.
{right} of the {all} that were judged are ruled as they must be; wrong rulings are marked.
A model that must fail for what it holds is asked about that alone: damage is decided after it.
Where it does not fail, the whole audit is made. `tests` repeat many of these on tiny models.
"""

_POWER = """## How often the verdict is right

`scripts/verdict_power.py`: a model with a known truth stands in for the unlearned one.
"Gold" never saw the data and is no anchor. The others hold a part of it.
The evidence is simulated; models differ by the noise that was measured between golds of the demo.
"""

_GOLDS = """## Retrained models as users train them

Each of these models was trained without the data, and one other gold anchors the audit.
The command: `expunge audit GOLD-1 --original ORIGINAL --gold GOLD-0 --goal removal`, and
`--against`, `--retain`, `--neighbours` and `--holdout` with the files of the set.
SmolLM2-135M with LoRA adapters; `people` and `bios` come from `benchmarks/worlds.py`.
"""

_VALIDITY = """## Metrics on models whose knowledge is known

`scripts/meta_evaluation.py`: {know} tiny models that hold {facts} facts, and {never} that do not.
Faithfulness is the AUC between the two groups. Robustness is judged on {unlearned} unlearned models
that were rounded to int4 and taught again (arXiv:2506.12618).
A metric with a faithfulness below {threshold} decides nothing.
"""


def page(root: Path) -> str:
    """Return the text of the page of the auditor."""
    results = root / "benchmarks" / "results"
    parts = [
        GENERATED + _HEAD,
        _cheats(read_json(results / "cheats.json")),
        _power(read_json(results / "verdict_power.json")),
        _golds(read_json(results / "true_golds.json")),
        _validity(read_json(VALIDITY)),
    ]
    return "\n\n".join(parts) + "\n"


def _cheats(found: Mapping[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for name, row in found["cheats"].items():
        failed = list(row["failed"])
        shown = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
        sign = "" if row["right"] else " (wrong)"
        passed = row["ruling"].startswith("PASS")
        why = shown or ("no gate fails" if passed else row["reasons"][0].partition(":")[0])
        rows.append((name, row["expected"], row["ruling"] + sign, why))
    rows += [(name, must, "not run", "") for name, must in found.get("not_run", {}).items()]
    head = ("model", "must be", "was ruled", "what decided")
    right = sum(row["right"] for row in found["cheats"].values())
    text = _CHEATS.format(facts=found["facts"], right=right, all=len(found["cheats"]))
    return f"{text}\n{table(head, rows)}"


def _power(found: Mapping[str, Any]) -> str:
    def rate(part: Mapping[str, float]) -> str:
        return f"{part['rate']:.0%} ({part['low']:.0%} to {part['high']:.0%})"

    rows = [
        (name, cell["resamples"], rate(cell["passed"]), rate(cell["failed"]))
        for name, cell in found["cells"].items()
    ]
    head = ("case", "audits", "PASS (95 %)", "FAIL (95 %)")
    return f"{_POWER}\n{table(head, rows)}"


def _golds(found: Mapping[str, Any]) -> str:
    rows = [
        (row["data"], row["records"], row["ruling"], row["residual"], row["open"])
        for row in found["golds"]
    ]
    head = ("data", "records", "ruling", "residual memory", "what did not pass")
    return f"{_GOLDS}\n{table(head, rows)}"


def _validity(found: Mapping[str, Any]) -> str:
    def cell(part: Mapping[str, float]) -> str:
        return f"{part['value']:.2f} ({part['low']:.2f} to {part['high']:.2f})"

    rows = [
        (
            f"`{name}`",
            cell(row["faithfulness"]),
            cell(row["robustness"]),
            "yes" if row["faithfulness"]["value"] >= THRESHOLD else "no",
        )
        for name, row in found["metrics"].items()
    ]
    sizes = {key: found[key] for key in ("know", "never", "unlearned", "facts")}
    head = ("metric", "faithfulness (95 %)", "robustness (95 %)", "may decide")
    return f"{_VALIDITY.format(**sizes, threshold=THRESHOLD)}\n{table(head, rows)}"


def false_alarms(root: Path) -> str:
    """Return the table of `scripts/null_battery.py`."""
    found = read_json(root / "benchmarks" / "results" / "null_battery.json")
    rows = [
        (name, f"{world['false_alarms']} of {world['batteries']}", f"{world['rate']:.1%}")
        for name, world in found["worlds"].items()
    ]
    return f"\n{table(('case', 'batteries with an alarm', 'rate'), rows)}\n\n"
