"""TOFU on SmolLM2-135M: every method once, at its defaults, on the first 40 records of forget10.

    python benchmarks/tofu_methods.py --base FOLDER --shared ../shared

Each method runs in a process of its own, so that its memory is its own, and leaves one JSON file in
`--work`: the same command goes on after the last one that is whole. `--methods npo rmu` runs some
and keeps the rows that the table has of the others, `--steps 20` bounds the training of each.
Writes `benchmarks/results/tofu_methods.json`, from which `python scripts/make_method_pages.py`
makes the table in `docs/results/methods.md`.

Gold distance: the mean over forget records of |m - m_gold| in nats per token, m the mean
log-probability of the answer's tokens and m_gold its mean over two golds.
Fluency: greedy answers, 40 tokens, to the first 20 forget questions. A refusal says that it does
not know, and does not loop; gibberish is, of the others, empty, a loop, or over 6 nats per token
under the original.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from expunge.config.settings import Settings
from expunge.data.records import Record
from expunge.data.secret_tokens import same_question
from expunge.data.tokenization import Encoder
from expunge.evidence.collect import Collector
from expunge.evidence.store import Answer, EvidenceStore, Unit
from expunge.methods import EDITS, METHODS
from expunge.metrics.fluency import gibberish, refusal
from expunge.models.loading import Loaded, load
from expunge.pipeline.train import with_self_generated
from expunge.pipeline.workers import work
from expunge.preparation.prepare import prepare, source_of
from expunge.training.early_stopping import unseen_level
from expunge.training.trainable_weights import TrainableWeights
from expunge.utils.console import SilentConsole
from expunge.utils.io import read_json, write_json, write_jsonl
from expunge.utils.system import peak_gib
from tofu import GOLDS, Row, holdout_nlls, measure, model, sets

ASKED = 20
NEW_TOKENS = 40
RESULT = Path(__file__).parent / "results" / "tofu_methods.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One model of the table; what a method did, where one did it."""

    row: Row
    gold_distance: float
    family: str = ""
    steps: int = 0
    planned: int = 0
    stopped: str = ""
    seconds: float = 0.0
    """Of training, with the answers that some methods have the model write before."""
    peak_gib: float = 0.0
    """Most memory that the process held until training was over, the weights included."""


def settings(given: argparse.Namespace, name: str) -> Settings:
    """Return what `expunge forget --method NAME` would run, with the data of the benchmark."""
    limit = {"steps": given.steps} if given.steps and name in METHODS else {}
    return Settings.model_validate(
        {
            "model": model(given.base, given.shared, "full-s0"),
            "device": given.device,
            "offline": True,
            "request": {
                "goal": "removal",
                "forget": (str(given.work / "forget.jsonl"),),
                "retain": (str(given.work / "trained.jsonl"),),
                "gold": tuple(model(given.base, given.shared, adapter) for adapter in GOLDS),
            },
            "method": {"name": name},
            "train": limit,
        }
    )


def collect(given: argparse.Namespace, original: Loaded) -> Collector:
    """Return what scores and asks the models; its evidence is kept in the work folder."""
    records = sets(given.shared)
    records["asked"] = records["forget"][:ASKED]
    return Collector(
        store=EvidenceStore(given.work / "evidence"),
        encoder=Encoder(original.tokenizer),
        records=records,
        max_new_tokens=NEW_TOKENS,
        tokens_per_pass=4096,
    )


def ask(collector: Collector, loaded: Loaded, role: str) -> None:
    """Let a model answer the first forget questions, unless that was done."""
    with SilentConsole().progress(role, total=1, unit="tests") as bar:
        collector.model(loaded.network, role, scored=(), asked=("asked",), attacks=(), bar=bar)


def refuses(answer: Answer) -> bool:
    """Tell whether an answer is a refusal, however surprised the original would be to give it."""
    return refusal(answer.text) and not gibberish(replace(answer, nll=None))


def fluency(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the shares of answers that are gibberish and that are refusals; none is both."""
    refused = sum(refuses(answer) for answer in answers)
    broken = sum(gibberish(answer) and not refuses(answer) for answer in answers)
    return {"gibberish": broken / len(answers), "refusals": refused / len(answers)}


def told(given: argparse.Namespace, line: dict[str, Any]) -> dict[str, object]:
    """Return a line with what the model's answers are, which the evidence tells."""
    unit = Unit(role=line["row"]["model"], split="asked", kind="answers")
    return {**line, **fluency(EvidenceStore(given.work / "evidence").answers(unit))}


def distance(store: EvidenceStore, role: str, golds: list[str]) -> float:
    """Return the gold distance of a model, nats per token."""

    def means(of: str) -> np.ndarray:
        rows = store.scores(Unit(role=of, split="forget", kind="scores"))
        return np.array([np.mean(row.logp) for row in rows])

    return float(np.abs(means(role) - np.mean([means(gold) for gold in golds], axis=0)).mean())


def roles() -> list[str]:
    """Return the names of the golds."""
    return [f"gold-{seed}" for seed in range(len(GOLDS))]


def references(given: argparse.Namespace) -> None:
    """Write the data files, and measure original and golds, unless that was done."""
    for split, records in sets(given.shared).items():
        write_jsonl(given.work / f"{split}.jsonl", (_plain(record) for record in records))
    if (given.work / "references.json").is_file():
        return
    source = source_of(settings(given, "npo"))
    original = load(model(given.base, given.shared, "full-s0"), source)
    collector = collect(given, original)
    holdout_nlls(collector, original)
    rows = {"original": measure(collector, original, "original")}
    ask(collector, original, "original")
    for role, adapter in zip(roles(), GOLDS, strict=True):
        gold = load(model(given.base, given.shared, adapter), source)
        rows[role] = measure(collector, gold, role)
        ask(collector, gold, role)
    lines: list[dict[str, object]] = []
    for role, row in rows.items():
        others = [gold for gold in roles() if gold != role]
        apart = distance(collector.store, role, others)
        collector.fluency(original.network, role, "asked")
        lines.append(asdict(Line(row=row, gold_distance=apart)))
    write_json(given.work / "references.json", lines)


def run(given: argparse.Namespace, name: str) -> None:
    """Run one method, measure what it made, and write its line."""
    prepared = prepare(settings(given, name))
    original = load(prepared.settings.model, prepared.source)
    collector = collect(given, original)
    nlls = holdout_nlls(collector, original)
    role = role_of(given, name)
    folder = given.work / "runs" / role
    started = time.monotonic()
    prepared = with_self_generated(
        prepared, original.network, EvidenceStore(folder / "texts"), SilentConsole()
    )
    unlearning = work(prepared, original.network)
    trained, weights = unlearning.run(
        unseen=unseen_level(
            nlls,
            original.network.vocabulary,
            same_question=same_question(prepared.scope.forget, collector.records["holdout"]),
        ),
        folder=folder / "checkpoints",
        progress=lambda step, text: print(f"{name} {step} {text}", flush=True),
    )
    if isinstance(weights, TrainableWeights):  # a guard moves none
        unlearning.finish(weights)
    seconds, peak = time.monotonic() - started, peak_gib(prepared.source.device)
    for unit in collector.store.units():
        if unit.role == role:  # of an earlier attempt
            (collector.store.folder / unit.filename).unlink()
    row = measure(collector, original, role)
    ask(collector, original, role)
    again = load(prepared.settings.model, prepared.source)
    collector.fluency(again.network, role, "asked")
    line = Line(
        row=row,
        gold_distance=distance(collector.store, role, roles()),
        family=prepared.method.family,
        steps=trained.steps,
        planned=trained.planned,
        stopped=trained.stopped,
        seconds=round(seconds, 1),
        peak_gib=round(peak, 2),
    )
    write_json(given.work / f"{role}.json", asdict(line))
    shutil.rmtree(folder, ignore_errors=True)  # edits and guards leave none


def role_of(given: argparse.Namespace, name: str) -> str:
    """Return the name of what a method makes, in evidence, files and the table."""
    return f"{name}-{given.steps}" if given.steps else name


def command(given: argparse.Namespace) -> str:
    """Return the command that the table names."""
    whole = "python benchmarks/tofu_methods.py --base FOLDER --shared ../shared"
    return whole + (f" --steps {given.steps}" if given.steps else "")


def published(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the rows that this command left in the table before, by method."""
    table = read_json(RESULT) if RESULT.is_file() else {"command": ""}
    if table["command"] != command(given):
        return {}
    return {line["row"]["model"]: line for line in table["models"] if line["family"]}


def _plain(record: Record) -> dict[str, str]:
    told = {"id": record.id, "prompt": record.question, "completion": record.completion}
    return told if record.subject is None else {**told, "subject": record.subject}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *EDITS], metavar="NAME")
    parser.add_argument("--steps", type=int, help="of training; default: the method's own")
    parser.add_argument("--work", type=Path, default=Path("runs/tofu_methods"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--note", default="", help="under what conditions this runs, for the table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure original and golds, run every method that has no line yet, write the table."""
    given = arguments()
    if given.one is not None:
        run(given, given.one)
        return
    references(given)
    untouched = [told(given, line) for line in read_json(given.work / "references.json")]
    rows, failed = published(given), dict[str, str]()
    for name in given.methods:
        role = role_of(given, name)
        file = given.work / f"{role}.json"
        if not file.is_file():
            print(f"-- {name}", flush=True)
            words = [sys.executable, *sys.argv, "--one", name]
            done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                failed[name] = done.stderr.strip().splitlines()[-1]
                print(done.stderr, file=sys.stderr)
                continue
        rows[role] = told(given, read_json(file))
        print(json.dumps(rows[role]), flush=True)
    write_json(
        RESULT,
        {
            "command": command(given),
            "models": [*untouched, *rows.values()],
            "failed": failed,
            "note": given.note,
            "device": given.device,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        },
    )


if __name__ == "__main__":
    main()
