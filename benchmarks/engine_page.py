"""The table of docs/results/engine.md, from what `engine.py` measured."""

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "results" / "engine.md"
START, END = "<!-- measured: benchmarks/engine.py -->\n", "<!-- end -->\n"
BARS = {
    "npo/all": 1.7,
    "graddiff/all": 1.5,
    "graddiff+kl/all": 1.6,
    "npo/lora": 2.5,
    "npo/third": 4.0,
    "rmu/three": 6.0,
    "metrics": 6.0,
    "answers": 3.0,
}
NAMES = {
    "npo/all": "NPO, all weights",
    "graddiff/all": "GradDiff, all weights",
    "graddiff+kl/all": "GradDiff + KL, all weights",
    "simnpo/all": "SimNPO, all weights",
    "undial/all": "UNDIAL, all weights",
    "npo/lora": "NPO, LoRA",
    "graddiff/lora": "GradDiff, LoRA",
    "npo/third": "NPO, last third, states below known",
    "graddiff/third": "GradDiff, last third, states below known",
    "rmu/three": "RMU, three matrices",
    "metrics": "seven likelihood metrics",
    "answers": "greedy answers",
    "known answers": "greedy answers, after the metrics",
}


def section(found: dict[str, Any]) -> str:
    """Return the measured part of the page as Markdown.

    Args:
        found: What is in results/engine.json.
    """
    machine = found["machine"]
    threads = machine["threads"]
    head = (
        f"{machine['processor']}, {threads} thread{'s' * (threads != 1)}, torch "
        f"{machine['torch']}, transformers {machine['transformers']}."
    )
    parts = [head]
    for precision, rows in found["rows"].items():
        tables = (_training(precision, rows), _evaluation(precision, rows), _memory(rows))
        parts += [line for table in tables if table for line in ("", *table)]
    return "\n".join(parts) + "\n"


def publish(text: str, page: Path = PAGE, *, start: str = START) -> None:
    """Put the measured part into the page."""
    whole = page.read_text(encoding="utf-8")
    before, rest = whole.split(start)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{start}{text}{END}{after}", encoding="utf-8")


def _training(precision: str, rows: dict[str, Any]) -> list[str]:
    lines = [
        f"| {precision} | ratio a step | bar | with references shared out | peer, s a step "
        "| expunge, s a step | share of the product's speed | losses differ by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = _kind(rows, "pass_seconds")
    # A noisy moment makes the product that a row measured slow, never fast.
    best = max((row["matmul_peak"] for _, row in found), default=1.0)
    for name, row in found:
        spent = {side: min(values) for side, values in row["step_seconds"].items()}
        scale = row["matmul_peak"] / best
        share = {side: scale * value for side, value in row["peak_share"].items()}
        lines.append(
            f"| {NAMES[name]} | {row['ratio_step']:.2f} | {_bar(name, row['ratio_step'])} "
            f"| {row['ratio']:.2f} | {spent['peer']:.1f} | {spent['expunge']:.1f} "
            f"| {share['peer']:.0%} / {share['expunge']:.0%} | {row['loss_difference']:.0e} |"
        )
    return lines if found else []


def _evaluation(precision: str, rows: dict[str, Any]) -> list[str]:
    lines = [
        f"| {precision} | ratio | bar | peer, s | expunge, s | records | differ by |",
        "|---|---|---|---|---|---|---|",
    ]
    found = _kind(rows, "seconds")
    for name, row in found:
        spent = row["seconds"]
        lines.append(
            f"| {NAMES[name]} | {row['ratio']:.2f} | {_bar(name, row['ratio'])} "
            f"| {spent['peer']:.1f} | {spent['expunge']:.1f} | {row['records']} "
            f"| {row['difference']} |"
        )
    return lines if found else []


def _memory(rows: dict[str, Any]) -> list[str]:
    lines = [
        "| peak of the process, GiB | peer | expunge | planned | ratio |",
        "|---|---|---|---|---|",
    ]
    found = _kind(rows, "memory")
    for name, row in found:
        peer, own = row["memory"]["peer"], row["memory"]["expunge"]
        lines.append(
            f"| {NAMES[name]} | {peer['peak']:.2f} | {own['peak']:.2f} | {own['planned']:.2f} "
            f"| {own['peak'] / peer['peak']:.2f} |"
        )
    return lines if found else []


def _kind(rows: dict[str, Any], mark: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, rows[name]) for name in NAMES if mark in rows.get(name, {})]


def _bar(name: str, ratio: float) -> str:
    if name not in BARS:
        return ""
    return f"{BARS[name]:g}: {'met' if ratio >= BARS[name] else 'not met'}"
