"""The engine against a common loop: the same work, the same losses, in one run.

    python benchmarks/engine.py --base FOLDER --shared ../shared [--precision bf16]

Each row trains (or evaluates) SmolLM2-135M on TOFU with the peer of `peer.py` and with `expunge`,
each in a process of its own, taking turns step by step, and prints the ratio of their times. Rows
that `benchmarks/results/engine.json` already holds are skipped; `--again` measures them anew. The
table goes into docs/results/engine.md, too.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers

from engine_page import publish, section
from evaluation import evaluation
from expunge.utils.io import write_json
from testbed import PRECISIONS
from training import training

RESULT = Path(__file__).parent / "results" / "engine.json"
ROWS = (
    "npo/lora",
    "npo/third",
    "npo/all",
    "rmu/three",
    "answers",
    "metrics",
    "graddiff/all",
    "graddiff+kl/all",
    "simnpo/all",
    "undial/all",
    "known answers",
    "graddiff/lora",
    "graddiff/third",
)
"""METHOD/WEIGHTS, or what is evaluated."""
NARROW = ("npo/third", "npo/lora", "npo/all", "rmu/three", "metrics", "answers")
"""Rows that are measured in bf16, too."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--rows", nargs="*", help="only these, for example npo/all")
    parser.add_argument("--again", action="store_true", help="measure rows that are there")
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    """Measure the rows that are missing, then print the table."""
    given = arguments()
    found: dict[str, Any] = json.loads(given.result.read_text()) if given.result.is_file() else {}
    results = found.setdefault("rows", {}).setdefault(given.precision, {})
    wanted = given.rows or (ROWS if given.precision == "fp32" else NARROW)
    for name in ROWS:
        if name not in wanted or (name in results and not given.again):
            continue
        method, _, weights = name.partition("/")
        row = training(given, method, weights) if weights else evaluation(given, name)
        results[name] = row
        print(name, f"{row['ratio']:.2f}", flush=True)
        write_json(given.result, {**found, "machine": machine(torch.device(given.device))})
    text = section(json.loads(given.result.read_text()))
    print(text)
    if given.result == RESULT:
        publish(text)


def processor() -> str:
    """Name the processor and the widest products that it has instructions for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in known.items()}
    flags = known.get("flags", "").split()
    has = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return ", ".join([known.get("model name", platform.machine()), *has])


def machine(device: torch.device) -> dict[str, object]:
    """Describe where the numbers come from."""
    return {
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main()
