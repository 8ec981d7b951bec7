"""Forgetting measured on a world: the command that a user types, and what became of each fact.

Everything a run reaches is written down at once: the run folder resumes by itself, what the model
answered is kept beside it, and a world that has its row is not run again.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarking.result import axis_scores
from expunge.reporting.schema import read_results
from expunge.utils.io import read_json, write_json
from registers import worlds
from world_models import ASKED, Answer, Made, answers_of, kept_answers, seconds_of

ATTACKS = ("sampling", "relearn", "pruning")
GATE_FAILED = 3
"""Exit code of a command whose model did not pass: a finished run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way of forgetting: a name for the table, and the flags of `expunge forget`."""

    name: str
    flags: tuple[str, ...] = ()
    """`{base}`, `{train}` and `{recipe}` in them stand for the base model, the file of all that was
    taught, and the file that says how."""


def run(made: Made, arm: Arm, *, golds: int, out: Path) -> dict[str, Any] | None:
    """Forget on a world, and return its row; what was done before is not done again.

    A run that a gate failed has its row; one that ended with an error has none, and is tried again
    the next time.

    Args:
        made: The world on disk, with its models.
        arm: How to forget.
        golds: How many golds the audit is given.
        out: Folder of all rows.
    """
    folder = out / f"{made.folder.name}-{arm.name}"
    path = folder / "row.json"
    if path.is_file():
        return read_json(path)
    done = _forget(made, arm, golds=golds, folder=folder)
    if done["exit"] not in (0, GATE_FAILED):
        print(f"{folder.name}: ended with {done['exit']}, see {folder / 'log.txt'}")
        return None
    row = {
        "world": made.world.name,
        "seed": made.seed,
        "arm": arm.name,
        "flags": list(arm.flags),
        "records": made.world.forget,
        "golds": golds,
        **done,
    }
    model = folder / "run"
    if (model / "results.json").is_file():
        row |= judged(model) | facts(made, model, golds=golds)
    write_json(path, row)
    return row


def command(made: Made, arm: Arm, *, golds: int, run_folder: Path) -> list[str]:
    """Return what a user would type."""
    sets = {"retain": "retain", "neighbours": "neighbours", "holdout": "holdout"}
    words = [sys.executable, "-m", "expunge", "forget", made.model("original")]
    words += [str(made.data("forget")), "--goal", "removal"]
    for flag, name in sets.items():
        words += [f"--{flag}", str(made.data(name))]
    for index in range(golds):
        words += ["--gold", made.model(f"gold-{index}")]
    attacks = ", ".join(f'"{name}"' for name in ATTACKS)
    words += ["--set", "request.rehearse=false", "--set", f"audit.attacks=[{attacks}]"]
    words += ["--set", f"audit.max_new_tokens={made.longest_answer}"]
    known = {
        "base": str(made.base),
        "train": str(made.data("train")),
        "recipe": str(made.recipe),
    }
    return [*words, "--out", str(run_folder), *(flag.format(**known) for flag in arm.flags)]


def _forget(made: Made, arm: Arm, *, golds: int, folder: Path) -> dict[str, Any]:
    """Run the command to its end; a run that was killed goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    words = command(made, arm, golds=golds, run_folder=folder / "run")
    started, before = time.monotonic(), os.times()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(shlex.join(words) + "\n")
        log.flush()
        code = subprocess.run(words, stdout=log, stderr=log, check=False).returncode
    after = os.times()
    spent = after.children_user + after.children_system
    return {
        "exit": code,
        "wall_s": round(time.monotonic() - started),
        "cpu_s": round(spent - before.children_user - before.children_system),
    }


def judged(model: Path) -> dict[str, Any]:
    """Return what the audit of a run folder found: ruling, axes, gates and times."""
    results = read_results(model)
    found = read_json(model / "facts.json")
    train = found.get("train") or {}
    leaks = {
        f"{score.role} {score.attack}": score.value
        for score in results.scores
        if score.metric == "key-fact" and score.split == "forget" and score.value is not None
    }
    return {
        "verdict": str(results.verdict.ruling),
        "axes": {str(axis): str(status) for axis, status in results.axes.items()},
        "axis_scores": {
            str(axis): round(place.value, 3) for axis, place in axis_scores(results.gates).items()
        },
        "gates": [
            [str(g.axis), g.name, g.value, g.low, g.high, g.margin, g.n, str(g.status)]
            for g in results.gates
        ],
        "key_facts": leaks,
        "method": found["method"]["name"],
        "train_s": train.get("seconds"),
        "audit_s": found.get("audit_seconds"),
    }


def facts(made: Made, model: Path, *, golds: int) -> dict[str, Any]:
    """Ask the unlearned model every question of the world, beside the answers of the others."""
    asked = kept_answers(made, _weights(model), model.parent / "answers.jsonl")
    answers = {"unlearned": asked, "original": answers_of(made, "original")}
    answers |= {f"gold-{index}": answers_of(made, f"gold-{index}") for index in range(golds)}
    return {
        "stated": {
            role: {name: sum(answer.stated for answer in said[name]) for name in ASKED}
            for role, said in answers.items()
        },
        "asked": {name: len(asked[name]) for name in ASKED},
        "malformed": {
            role: sum(answer.malformed for answer in said["forget"])
            for role, said in answers.items()
        },
        "unrehearsed_lost": _lost(answers["original"]["neighbours"], asked["neighbours"]),
        "gold_s": [seconds_of(made, f"gold-{index}") for index in range(golds)],
    }


def _weights(folder: Path) -> str:
    inner = folder / "model"
    return str(inner if inner.is_dir() else folder)


def _lost(before: Sequence[Answer], after: Sequence[Answer]) -> int:
    """How many facts that the original states are not stated any more."""
    return sum(b.stated and not a.stated for b, a in zip(before, after, strict=True))


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Return all rows below a folder, in the order of the table of worlds, then of arms."""
    rows = [read_json(path) for path in sorted(out.glob("*/row.json"))]
    order = list(worlds())
    return sorted(rows, key=lambda row: (row["seed"], order.index(row["world"]), row["arm"]))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown: one line a world and arm, worlds in the order given."""
    head = (
        "world", "seed", "arm", "verdict", "weakest axis", "stated", "other wording",
        "second language", "gold", "unrehearsed lost", "malformed (gold)", "relearn excess",
        "int4", "forget s", "gold s",
    )  # fmt: skip
    lines = [head, tuple("---" for _ in head), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    start = (row["world"], str(row["seed"]), row["arm"])
    if "verdict" not in row:
        return (*start, f"no model (exit {row['exit']})", *("" for _ in range(11)))
    said, n = row["stated"]["unlearned"], row["records"]
    golds = [counts for role, counts in row["stated"].items() if role.startswith("gold")]
    formless = [count for role, count in row["malformed"].items() if role.startswith("gold")]
    neighbours = row["stated"]["original"]["neighbours"]
    return (
        *start,
        row["verdict"],
        f"{min(row['axis_scores'].values()):.2f}" if row["axis_scores"] else "",
        f"{said['forget']} of {n}",
        str(said["forget-held"]),
        str(said["forget-second"]),
        "/".join(str(counts["forget"]) for counts in golds),
        f"{row['unrehearsed_lost']} of {neighbours}",
        f"{row['malformed']['unlearned']} ({'/'.join(map(str, formless))})",
        _gate(row, "relearn"),
        _share(row["key_facts"].get("unlearned int4")),
        "" if row["train_s"] is None else f"{row['train_s']:.0f}",
        "/".join(f"{seconds:.0f}" for seconds in row["gold_s"]),
    )


def _gate(row: dict[str, Any], word: str) -> str:
    """The largest value of the gates that a word names, with its upper bound."""
    found = [gate for gate in row["gates"] if word in gate[1] and gate[2] is not None]
    if not found:
        return ""
    worst = max(found, key=lambda gate: gate[2])
    return f"{worst[2]:.2f} (to {worst[4]:.2f})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
