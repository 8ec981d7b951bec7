"""Write docs/results.md from the committed leaderboards: what was run, on what, and what was not.

    expunge bench tofu ... --out bench/tofu
    cp bench/tofu/leaderboard.json benchmarks/results/bench-tofu.json
    python scripts/make_results_page.py

The page cannot drift: a test writes it again and compares.
"""

from pathlib import Path

from expunge.bench.pages import to_markdown
from expunge.bench.suites import SUITES
from expunge.files import read_json

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RESULTS = ROOT / "benchmarks" / "results"

_HEAD = """# Results

Leaderboards that `expunge bench` wrote, from the JSON in `benchmarks/results`. Each says its
hardware, versions and tuning budget; failures are listed with the same prominence as successes. One
dataset on one small model does not rank methods in general: published rankings change with model,
metric and tuning, which is why the command is here.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    found = sorted(RESULTS.glob("bench-*.json"))
    for path in found:
        told = read_json(path)
        parts.append(f"## {told['title']}\n\nFrom `{path.relative_to(ROOT)}`.\n")
        parts.append(to_markdown(told))
    parts.append("## Not run\n")
    missing = [name for name in SUITES if not any(f"bench-{name}" in path.name for path in found)]
    lines = [f"- `{name}`: read and tested, no leaderboard is committed yet" for name in missing]
    lines += [
        "- models above 135M parameters, and golds trained for them: see "
        "`scripts/make_tofu_targets.py`",
        "- MUSE's sequential folds, one run starting from the last one's model",
        "- lm-eval beside the utility sets",
    ]
    return "\n".join([*parts, "\n".join(lines)]) + "\n"


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
