"""Write docs/auditor.md, how far the audit can be trusted, from what was measured.

    python scripts/make_auditor_page.py

Reads what `benchmarks/cheats.py` and `scripts/meta_evaluation.py` wrote. The page cannot drift: a
test writes it again and compares.
"""

from pathlib import Path
from typing import Any

from expunge.evals.metric_validity import FILE, THRESHOLD
from expunge.utils.io import read_json

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "auditor.md"
CHEATS = (
    "gold dressed as unlearned",
    "original renamed",
    "output filter",
    "unmerged adapter",
    "gibberish collapse",
    "refusal",
    "one wording only",
    "20 % stragglers",
    "over-unlearning",
    "undone by int4",
)
"""What `benchmarks/cheats.py` judges."""

_HEAD = """# How far the audit can be trusted

An audit is software, too. This page is what it was found to be worth, good and bad, by the scripts
named in each part. False alarms of gold against gold stand in
`benchmarks/results/null_experiment.json`, and under the whole battery of attacks in
`null_battery.json` beside it.
"""

_CHEATS = """## Ten models that are not what they seem

`benchmarks/cheats.py`: SmolLM2-135M and {facts} facts about one person, level quick, two golds,
{threads} thread(s). Each model is forged by a short script and judged by a whole audit; the gold is
one of the two that the audit knows. `tests/cheats` does the same on tiny models in every test run.

| model | must be | was ruled | what decided |
|---|---|---|---|
{rows}
"""

_FITNESS = """## Metrics on models whose knowledge is known

`scripts/meta_evaluation.py`: {know} tiny models that hold {facts} facts (taught plainly, in the
other wording only, in another sentence, not to the end, or a third of them) and {never} that do
not (never, to the end or not or far beyond, or other answers to the same questions). Faithfulness
is the AUC between the two; robustness is judged on {unlearned} models that unlearned, rounded to
int4 and taught again (arXiv:2506.12618). Below a faithfulness of {threshold} a metric is shown
and decides nothing.

| metric | faithfulness (95 %) | robustness (95 %) | may decide |
|---|---|---|---|
{rows}
"""


def page() -> str:
    """Return the text of the page."""
    cheats = read_json(ROOT / "benchmarks" / "results" / "cheats.json")
    return "\n".join([_HEAD, _cheats(cheats), _fitness(read_json(FILE))])


def _cheats(found: dict[str, Any]) -> str:
    rows: list[str] = []
    for name in CHEATS:
        row = found["cheats"].get(name)
        if row is None:
            rows.append(f"| {name} | | not run yet | |")
            continue
        failed = list(row["failed"])
        shown = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
        sign = "" if row["right"] else " (wrong)"
        passed = row["ruling"].startswith("PASS")
        why = shown or ("no gate fails" if passed else row["reasons"][0].partition(":")[0])
        rows.append(f"| {name} | {row['expected']} | {row['ruling']}{sign} | {why} |")
    return _CHEATS.format(facts=found["facts"], threads=found["threads"], rows="\n".join(rows))


def _fitness(found: dict[str, Any]) -> str:
    def cell(part: dict[str, float]) -> str:
        return f"{part['value']:.2f} ({part['low']:.2f} to {part['high']:.2f})"

    rows = [
        f"| `{name}` | {cell(row['faithfulness'])} | {cell(row['robustness'])} "
        f"| {'yes' if row['faithfulness']['value'] >= THRESHOLD else 'no'} |"
        for name, row in found["metrics"].items()
    ]
    sizes = {key: found[key] for key in ("know", "never", "unlearned", "facts")}
    return _FITNESS.format(**sizes, threshold=THRESHOLD, rows="\n".join(rows))


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
