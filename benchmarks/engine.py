"""The engine against a common loop: the same work, the same losses, in one run.

    python benchmarks/engine.py --base FOLDER --shared ../shared [--precision bf16]

Each row trains (or evaluates) SmolLM2-135M on TOFU with the peer of `peer.py` and with `expunge`,
taking turns step by step, and prints the ratio of their times. Rows that
`benchmarks/results/engine.json` already holds are skipped; `--again` measures them anew. The table
goes into docs/engine.md, too.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from engine_page import publish, section
from sides import MODES, Mode, Ours, Theirs, common, same_start
from timing import Clock, matmul_peak
from transformers import PreTrainedModel

from expunge.data.encode import Encoder
from expunge.data.read import read
from expunge.engine.streams import Order, Streams
from expunge.files import write_json
from expunge.model.load import Loaded, Source, load

RESULT = Path(__file__).parent / "results" / "engine.json"
BATCH = 8
STEPS = 2
"""Timed steps of a row, after one that warms up and counts operations."""

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
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NARROW = ("npo/third", "npo/lora", "npo/all", "rmu/three", "metrics", "answers")
"""Rows that are measured in bf16, too."""
MEMORY = ("npo/all", "npo/lora")
"""Rows whose peak memory is measured, each side in a process of its own."""


def streams(shared: Path, encoder: Encoder) -> Streams:
    """Return TOFU's forget10 and retain90."""
    tofu = shared / "data" / "tofu"
    forget, retain = (read([str(tofu / f"{name}.json")]) for name in ("forget10", "retain90"))
    return Streams(
        forget=tuple(encoder.encode(record) for record in forget.records),
        retain=tuple(encoder.encode(record) for record in retain.records),
    )


def order_of(data: Streams) -> Order:
    """Return the order in which both sides see the records."""
    return Order(
        forget=len(data.forget),
        retain=len(data.retain),
        forget_batch=BATCH,
        retain_batch=BATCH,
        seed=0,
    )


class Bench:
    """What the rows of a run share."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.device = torch.device(given.device)
        self.dtype = PRECISIONS[given.precision]
        self.source = Source(device=self.device, dtype=self.dtype)
        self.base = str(given.base)
        self.shared = given.shared
        self.encoder = Encoder(self.load().tokenizer)
        self.streams = streams(given.shared, self.encoder)
        self.order = order_of(self.streams)

    def load(self, adapter: str | None = None) -> Loaded:
        """Load the base, or a model of the testbed."""
        folder = self.shared / "models" / "smollm2-tofu"
        reference = self.base if adapter is None else f"{self.base}+{folder / adapter}"
        return load(reference, self.source)

    def peer(self, adapter: str | None = None) -> PreTrainedModel:
        """Load it without what expunge makes faster in a model."""
        return common(self.load(adapter).network.model)

    def training(self, method: str, mode: Mode) -> dict[str, object]:
        """Time one method on both sides, step by step in turns."""
        draws = [self.order.draw(step) for step in range(STEPS + 1)]
        clock = Clock(self.device)
        ours = Ours(self.load().network, method, mode, self.streams, draws, clock)
        theirs = Theirs(self.load().network.model, self.load().network.model, method, mode, ours)
        same_start(ours, theirs)
        sides: dict[str, Callable[[int], float]] = {
            "peer": lambda step: theirs.step(draws[step]),
            "expunge": lambda step: ours.step(draws[step]),
        }
        flops = {name: clock.operations(partial(side, 0)) for name, side in sides.items()}
        losses = {name: [value] for name, (_, value) in flops.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for step in range(1, STEPS + 1):
            for name, side in sides.items():
                seconds[name].append(clock.seconds(partial(side, step), losses[name]))
        peak = matmul_peak(self.device, self.dtype)
        spent = {name: min(each) for name, each in seconds.items()}
        steps = self.order.steps_per_epoch
        once = ours.once_per_step(self.order)
        tokens = sum(len(r.ids) for draw in draws[1:] for r in ours.drawn(draw)) / STEPS
        return {
            "ratio": spent["peer"] / (spent["expunge"] + once),
            "ratio_step": spent["peer"] / spent["expunge"],
            "loss_difference": max(
                abs(a - b) / max(1.0, abs(a))
                for a, b in zip(losses["peer"], losses["expunge"], strict=True)
            ),
            "losses": losses,
            "step_seconds": seconds,
            "once_per_step": once,
            "lower_per_record": ours.lower_seconds,
            "pass_seconds": {
                "peer": spent["peer"] * steps,
                "expunge": (spent["expunge"] + once) * steps,
            },
            "tokens_per_second": {
                "peer": tokens / spent["peer"],
                "expunge": tokens / (spent["expunge"] + once),
            },
            "peak_share": {name: flops[name][0] / spent[name] / peak for name in sides},
            "matmul_peak": peak,
        }

    def memory(self, side: str, method: str, mode: Mode) -> None:
        """Print the peak memory, GiB, of two steps of one side."""
        draws = [self.order.draw(step) for step in range(2)]
        clock = Clock(self.device)
        if side == "expunge":
            ours = Ours(self.load().network, method, mode, self.streams, draws, clock)
            steps = [ours.step(draw) for draw in draws]
            planned = ours.planned_gib(self.order)
        else:
            known = Ours.unbuilt(method, mode, self.streams)
            reference = self.load().network.model if known.has_reference else None
            peer = Theirs(self.load().network.model, reference, method, mode, known)
            steps = [peer.step(draw) for draw in draws]
            planned = 0.0
        assert all(map(torch.isfinite, map(torch.tensor, steps)))
        print(json.dumps({"peak": high_water(), "planned": planned}))


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
    parser.add_argument("--memory", nargs=3, metavar=("SIDE", "METHOD", "WEIGHTS"))
    return parser.parse_args()


def main() -> None:
    """Measure the rows that are missing, then print the table."""
    given = arguments()
    bench = Bench(given)
    if given.memory:
        side, method, weights = given.memory
        bench.memory(side, method, MODES[weights])
        return
    found: dict[str, Any] = json.loads(given.result.read_text()) if given.result.is_file() else {}
    results = found.setdefault("rows", {}).setdefault(given.precision, {})
    wanted = given.rows or (ROWS if given.precision == "fp32" else NARROW)
    for name in ROWS:
        if name not in wanted or (name in results and not given.again):
            continue
        method, _, weights = name.partition("/")
        if weights:
            row = bench.training(method, MODES[weights])
            if name in MEMORY:
                row["memory"] = {side: peak(side, name) for side in ("peer", "expunge")}
        else:
            from evaluation import evaluation

            row = evaluation(bench, name)
        results[name] = row
        print(name, f"{row['ratio']:.2f}", flush=True)
        write_json(given.result, {**found, "machine": machine(bench.device)})
    text = section(json.loads(given.result.read_text()))
    print(text)
    if given.result == RESULT:
        publish(text)


def high_water() -> float:
    """Return the most memory that this process has held, GiB.

    Not `ru_maxrss`, which on Linux starts from what the parent held.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def peak(side: str, row: str) -> dict[str, float]:
    """Measure peak memory in a process of its own, GiB; for our side, what was planned as well."""
    command = [sys.executable, *sys.argv, "--memory", side, *row.split("/")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


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
