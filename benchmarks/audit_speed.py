"""Speed of the quick audit: minutes a model on SmolLM2-135M with the record counts of the bar.

    python benchmarks/audit_speed.py --base FOLDER --shared ../shared

100 records to forget, 100 of holdout, 200 to retain and 100 neighbours of TOFU. Times what the
audit of one more model costs once the original and its gold are known: all scores, answers and
attacks of level quick, the three models of the auditor's ladder, and the computation of the
results. Writes `benchmarks/results/audit_speed.json`, with processor time beside the clock's. The
bar is 8 minutes a model on two cores.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.evals.auditor import Auditor
from expunge.models.interpolation import changed, snapshot
from expunge.models.loading import load
from expunge.preparation.prepare import prepare
from expunge.utils.console import SilentConsole
from expunge.utils.io import write_json, write_jsonl
from tofu import model

SIZES = {"forget": 100, "holdout": 100, "retain": 200, "neighbours": 100}
BAR = 8 * 60
RESULT = Path(__file__).parent / "results" / "audit_speed.json"


def write_sets(shared: Path, folder: Path, share: float) -> dict[str, tuple[str, ...]]:
    """Write the four sets, each cut to a share of its size, and return where they lie."""
    data = shared / "data" / "tofu"
    kept = read([str(data / "retain90.json")]).records
    records = {
        "forget": read([str(data / "forget10.json")]).records,
        "holdout": read([str(data / "holdout10.json")]).records,
        "retain": kept[0::2],
        "neighbours": kept[1::2],
    }
    for name, size in SIZES.items():
        rows = [
            {"prompt": record.question, "completion": record.completion}
            for record in records[name][: max(5, round(share * size))]
        ]
        write_jsonl(folder / f"{name}.jsonl", rows)
    return {name: (str(folder / f"{name}.jsonl"),) for name in SIZES}


def measure(given: argparse.Namespace, folder: Path) -> dict[str, tuple[float, float]]:
    """Audit one model and return the seconds of each part, by the clock and of the processor."""
    settings = Settings.model_validate(
        {
            "model": model(given.base, given.shared, "full-s0"),
            "offline": True,
            "request": {
                "goal": "removal",
                "control": "none",
                **write_sets(given.shared, folder, given.share),
            },
            "audit": {"retain_records": SIZES["retain"]},
        }
    )
    prepared = prepare(settings)
    original = load(settings.model, prepared.source)
    judged = load(model(given.base, given.shared, "retain90-s0"), prepared.source)
    auditor = Auditor.open(prepared, folder / "evidence", key=bytes(32), adapter=False)

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    clock = [now()]
    with SilentConsole().progress("before", total=1) as bar:
        auditor.before(original, bar)
    clock.append(now())
    base = changed(judged.network, snapshot(original.network))
    with SilentConsole().progress("after", total=1) as bar:
        auditor.after(judged.network, judged.digest, base, bar)
    clock.append(now())
    auditor.judge()
    clock.append(now())
    names = ("original", "judged", "results")
    return {
        name: (b[0] - a[0], b[1] - a[1])
        for name, a, b in zip(names, clock[:-1], clock[1:], strict=True)
    }


def main() -> None:
    """Measure once, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--share", type=float, default=1.0, help="share of the records")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(given, Path(folder))
    wall, processor = (seconds["judged"][i] + seconds["results"][i] for i in (0, 1))
    print(f"a model: {wall:.0f} s, of the processor {processor:.0f} s (bar {BAR} s); {seconds}")
    row = {
        "bar_seconds": BAR,
        "share": given.share,
        "seconds_a_model": wall,
        "processor_seconds_a_model": processor,
        "parts": {name: {"wall": w, "processor": p} for name, (w, p) in seconds.items()},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    write_json(given.out, row)


if __name__ == "__main__":
    main()
