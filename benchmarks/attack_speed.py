"""How long a level of attacks takes for 100 facts on SmolLM2-135M, and what each attack costs.

    python benchmarks/attack_speed.py --base FOLDER --shared ../shared --level standard

Runs `expunge attack` as a user does, from loading models to the ladder: `retain90-s1` of the TOFU
testbed is judged, `full-s0` is the original, `retain90-s0` the one gold, and the facts are the
first of forget10 with a clear key answer. Takes the time of the clock and of the processors, so
nothing else should run. A level that was interrupted goes on in `--work`, but its time is then
that of the part, which is said. Prints a table of what attacking the judged model costs and writes
`benchmarks/results/attack_speed.json` (or `--out`).
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import torch

from attacks_tofu import RETAIN, facts, settings, write_retain
from expunge.config.resolve import to_toml
from expunge.pipeline.publish import versions
from expunge.utils.io import read_json, write_json, write_jsonl, write_text
from expunge.utils.system import processor
from tofu import GOLDS, model

RESULT = Path(__file__).parent / "results" / "attack_speed.json"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--work", type=Path, default=Path("runs/attack-speed"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--level", default="quick", choices=("quick", "standard", "paranoid"))
    parser.add_argument("--facts", type=int, default=100)
    return parser.parse_args()


def request(given: argparse.Namespace) -> Path:
    """Write the request and its data, and return its file."""
    write_jsonl(given.work / "data" / "facts.jsonl", facts(given.shared)[: given.facts])
    write_retain(given, RETAIN["stated"])
    file = given.work / "request.toml"
    write_text(file, to_toml(settings(given)))
    return file


def attack(given: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Run the command, and return its seconds by the clock and of processor time."""
    judged = model(given.base, given.shared, GOLDS[1])
    command = [sys.executable, "-m", "expunge", "attack", judged, "--against", request(given)]
    started, before = time.monotonic(), getrusage(RUSAGE_CHILDREN)
    subprocess.run([*command, "--level", given.level, "--out", folder], check=True)
    after = getrusage(RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.monotonic() - started, 1), round(processors, 1)


def row(rung: dict[str, Any]) -> dict[str, Any]:
    """Return what attacking the judged model with one attack cost."""
    return {"status": rung["status"], "reason": rung["reason"], **rung["cost"]}


def table(attacks: dict[str, dict[str, Any]]) -> str:
    """Return the costs as Markdown, the dearest attack first."""
    lines = ["| attack | tokens | steps | processor seconds |", "|---|---|---|---|"]
    for name in sorted(attacks, key=lambda name: -attacks[name]["cpu"]):
        cost = attacks[name]
        lines.append(f"| {name} | {cost['tokens']} | {cost['steps']} | {cost['cpu']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Attack with the whole level, and take the time."""
    given = arguments()
    folder = given.work / given.level
    resumed = folder.exists()
    seconds, processors = attack(given, folder)
    measured = {
        "facts": given.facts,
        "golds": 1,
        "resumed": resumed,
        "seconds": seconds,
        "cpu_seconds": processors,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": versions(),
        "attacks": {r["attack"]: row(r) for r in read_json(folder / "attack.json")["rungs"]},
    }
    results = read_json(given.out) if given.out.is_file() else {}
    write_json(given.out, {**results, given.level: measured})
    print(table(measured["attacks"]))
    print(
        f"{given.level}, {given.facts} facts, one gold: {seconds} s,"
        f" {processors} s of processor time"
        + (", of which an earlier run had made a part" if resumed else "")
    )


if __name__ == "__main__":
    main()
