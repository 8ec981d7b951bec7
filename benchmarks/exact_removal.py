"""Exact removal on a real model: equal bytes, and what it costs to be able to.

    python benchmarks/exact_removal.py --base FOLDER --data train.jsonl --records 64

Trains on the first records of a file (those made from others left out), takes some of them out
again in several requests, one after the other, and holds every result against a training that never
had them: model and replay log must be equal byte for byte. The cost of being able to is the time of
`expunge train` against that of the same training loop without checkpoints, log and fingerprints, in
processor seconds. Prints the rows and writes `benchmarks/results/exact_removal.json`.
"""

import argparse
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from expunge.config.settings import FinetuneSettings
from expunge.data.readers import read
from expunge.models.loading import load
from expunge.pipeline.exact import forget_exactly
from expunge.pipeline.finetune import train
from expunge.preparation.finetune import complete, prepare_finetune
from expunge.provenance.training_facts import MODEL, STEP_LOG
from expunge.training.early_stopping import Unseen
from expunge.utils.io import read_jsonl, write_json, write_jsonl

RESULT = Path(__file__).parent / "results" / "exact_removal.json"
NEVER = Unseen(mean=float("inf"), low=float("inf"))


def content(folder: Path) -> dict[str, bytes]:
    """Return what must be equal."""
    files = [*(folder / MODEL).iterdir(), folder / STEP_LOG]
    return {path.name: path.read_bytes() for path in files}


def removals(settings: FinetuneSettings, counts: list[int], place: Path) -> list[dict[str, object]]:
    """Take records out, request by request; return one row a request."""
    rows = read_jsonl(Path(settings.data[0]))
    run = train(settings, out=place / "run").folder
    found: list[dict[str, object]] = []
    for number, count in enumerate(counts):
        gone, rows = rows[:count], rows[count:]
        write_jsonl(place / "erase.jsonl", gone)
        write_jsonl(place / f"left-{number}.jsonl", rows)
        again = forget_exactly(run, [str(place / "erase.jsonl")], out=place / f"again-{number}")
        never = settings.model_copy(update={"data": (str(place / f"left-{number}.jsonl"),)})
        fresh = train(never, out=place / f"fresh-{number}")
        claim = again.facts.claim
        assert claim is not None, "a removal makes a claim"
        found.append(
            {
                "removed": count,
                "equal": content(again.folder) == content(fresh.folder),
                "begun_at": claim.begun_at,
                "steps": again.facts.steps,
                "digest": next(d for n, d in again.facts.files.items() if n.endswith("tensors")),
            }
        )
        run = again.folder
    return found


def plain(settings: FinetuneSettings, place: Path) -> None:
    """Train in the same loop, without anything that a replay needs."""
    settings = complete(settings)
    job = prepare_finetune(settings, read(settings.data).records)
    trainer = replace(
        job.trainer(load(settings.model, job.source).network),
        save_at=frozenset(),
        options=job.options.model_copy(update={"check_every": 10**9}),
    )
    trainer.run(unseen=NEVER, folder=place / "plain", progress=lambda step, text: None)


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of a piece of work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def overhead(settings: FinetuneSettings, place: Path, *, turns: int) -> float:
    """Return the time of `train` over that of plain training, the least of each."""
    times: dict[str, list[float]] = {"plain": [], "train": []}
    for _ in range(turns):
        for folder in ("plain", "recorded"):
            shutil.rmtree(place / folder, ignore_errors=True)
        times["plain"].append(seconds(lambda: plain(settings, place)))
        times["train"].append(seconds(lambda: train(settings, out=place / "recorded")))
    return min(times["train"]) / min(times["plain"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="exact removal on a real model")
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--remove", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.jsonl"
        alone = [row for row in read_jsonl(given.data) if "parent" not in row]
        write_jsonl(data, alone[: given.records])
        for full in (False, True):
            for seed in given.seeds:
                settings = FinetuneSettings.model_validate(
                    {
                        "model": given.base,
                        "data": (str(data),),
                        "device": "cpu",
                        "train": {"full": full, "epochs": given.epochs, "seed": seed},
                    }
                )
                place = Path(folder) / f"{full}-{seed}"
                place.mkdir()
                for row in removals(settings, given.remove, place):
                    rows.append({"weights": "all" if full else "LoRA", "seed": seed, **row})
                    print(rows[-1], flush=True)
                if seed == given.seeds[0]:
                    ratio = overhead(settings, place, turns=given.turns)
                    rows[-1]["overhead"] = ratio
                    print(f"overhead {ratio:.3f}", flush=True)
                shutil.rmtree(place)
    about = {"records": given.records, "epochs": given.epochs, "processor": platform.processor()}
    write_json(RESULT, {**about, "rows": rows})


if __name__ == "__main__":
    main()
