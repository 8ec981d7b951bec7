"""TOFU on SmolLM2-135M: planted models against the stress protocol. Do the attacks find them out?

    python benchmarks/attacks_tofu.py --base FOLDER --shared ../shared

Planted, all from `full-s0`, on facts of forget10 that have a clear key answer and that `full-s0`
states when it is asked plainly, for nothing else can come back:

    refusal   a few steps of refusals (IDK, LoRA, merged)    must fall to prefill and rewording
    adapter   the same, left unmerged                        must fall to unplug
    npo       NPO, all weights, learning rate 2e-5           must fall to int4 or relearning
    gold      retain90-s1                                    must show no excess beyond chance

each held against `retain90-s0`. TOFU's own paraphrases are so far from the questions that `full-s0`
itself hardly answers them, so a rewording is any of `paraphrase` and `wording`.

Everything is resumable: planted models and attacks that are in `--work` are not made again.
`--models npo` runs some, `--level standard` tries harder, `--only int4 relearn` runs some attacks,
`--npo-lr` and `--npo-epochs` plant another NPO. `--records all` plants on all of forget10 and
attacks 200 of its records, known before or not: what is said is then the share of an answer's
words. The row of the README with all of forget10 has `--records all --npo-lr 1.2e-5 --npo-epochs 2
--models npo --only relearn`. Prints the ladders and writes `benchmarks/results/attacks_tofu.json`
(or `--out`), bad results included.
"""

import argparse
import json
import re
import time
from dataclasses import asdict
from difflib import SequenceMatcher
from pathlib import Path

from expunge.attacks.presets import LEVELS
from expunge.cli.session import human_console
from expunge.config.settings import Settings
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.evals.recovery import AttackRecovery
from expunge.metrics.key_facts import contains, normalise
from expunge.metrics.outcomes import Status
from expunge.models.generation import greedy
from expunge.models.loading import load
from expunge.models.lora import save_adapter
from expunge.models.saving import save_model
from expunge.pipeline.attack import AttackedModel, AttackOptions, attack
from expunge.pipeline.workers import work
from expunge.preparation.prepare import prepare, source_of
from expunge.training.early_stopping import Unseen
from expunge.utils.io import read_json, read_jsonl, write_json, write_jsonl
from tofu import GOLDS, author_of, model

RESULT = Path(__file__).parent / "results" / "attacks_tofu.json"
RETAIN = {"stated": 120, "all": 560}
ATTACKED = 200
PLANTED = {
    "refusal": {
        "method": {"name": "idk"},
        "train": {"steps": 9, "lr": 1e-3, "rank": 8, "retain_batch": 4},
    },
    "npo": {
        "method": {"name": "npo", "beta": 0.1},
        "train": {"full": True, "epochs": 10, "lr": 2e-5, "retain_batch": 4},
    },
}
MUST_FALL = {
    "refusal": (("prefill-25", "prefill-50", "prefill-affirm"), ("paraphrase", "wording")),
    "adapter": (("unplug",),),
    "npo": (("int4", "nf4", "q4_0", "relearn"),),
}
"""Of each group, one attack must bring facts back."""
FURTHER = {"npo": ("nf4", "q4_0", "relearn")}
"""What a planted model meets beside the attacks of the level; relearning takes half an hour."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--work", type=Path, default=Path("runs/attacks-tofu"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--facts", type=int, default=60)
    parser.add_argument("--records", default="stated", choices=("stated", "all"))
    parser.add_argument("--level", default="quick", choices=("quick", "standard", "paranoid"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--npo-lr", type=float, default=2e-5, help="learning rate of npo")
    parser.add_argument("--npo-epochs", type=int, default=10, help="passes of npo over the facts")
    parser.add_argument("--models", nargs="*", default=["refusal", "adapter", "npo", "gold"])
    return parser.parse_args()


def key_answer(row: dict[str, object]) -> str | None:
    """Return the fact of a TOFU record: what the paraphrased answer has and the wrong ones lack.

    Only spans with a capital or a digit that stand word for word in the answer and not in the
    question; the longest of them.
    """
    words = str(row["paraphrased_answer"]).split()
    shared = [0] * len(words)
    wrong_answers = row["perturbed_answer"]
    assert isinstance(wrong_answers, list)
    for wrong in wrong_answers:
        match = SequenceMatcher(None, words, wrong.split(), autojunk=False)
        for block in match.get_matching_blocks():
            for index in range(block.a, block.a + block.size):
                shared[index] += 1
    marked = " ".join(
        word if count <= 1 else "|" for word, count in zip(words, shared, strict=True)
    )
    spans = [span.strip(" .,;:\"'") for span in marked.split("|")]
    answer, question = str(row["answer"]), str(row["question"])
    clear = [
        span
        for span in spans
        if re.search(r"[A-Z0-9]", span) and span in answer and span not in question
    ]
    return max(clear, key=len, default=None)


def facts(shared: Path) -> list[dict[str, object]]:
    """Return the records of forget10 with a clear key answer, with their author."""
    rows = read_jsonl(shared / "data" / "tofu" / "forget10_perturbed.json")
    found: list[dict[str, object]] = []
    for start in range(0, len(rows), 20):
        author = author_of([row["question"] for row in rows[start : start + 20]])
        for row in rows[start : start + 20]:
            key = key_answer(row)
            if key is None or key in author or author in key:
                continue
            found.append(
                {
                    "prompt": row["question"],
                    "completion": row["answer"],
                    "key_answers": [key],
                    "paraphrases": [row["paraphrased_question"]],
                    "subject": author,
                }
            )
    return found


def everything(shared: Path) -> list[dict[str, object]]:
    """Return all records of forget10."""
    rows = read_jsonl(shared / "data" / "tofu" / "forget10.json")
    return [{"prompt": row["question"], "completion": row["answer"]} for row in rows]


def stated(given: argparse.Namespace, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the first facts that the original states when it is asked plainly."""
    path = given.work / "candidates.jsonl"
    write_jsonl(path, rows)
    records = read([str(path)]).records
    chosen = settings(given)
    source = source_of(chosen)
    original = load(chosen.model, source)
    encoder = Encoder(original.tokenizer)
    answers = greedy(
        original.network,
        [encoder.prompt_ids(record) for record in records],
        end_ids=encoder.end_ids,
        max_new_tokens=chosen.audit.max_new_tokens,
        tokens_per_pass=chosen.train.tokens_per_pass,
    )
    known = [
        row
        for row, record, ids in zip(rows, records, answers, strict=True)
        if contains(normalise(encoder.decode(ids)), normalise(record.key_answers[0]))
    ]
    print(f"the original states {len(known)} of {len(rows)} facts", flush=True)
    return known[: given.facts]


def settings(
    given: argparse.Namespace, *, attacked: int | None = None, **tables: dict[str, object]
) -> Settings:
    """Return the request: these facts, spaced retain records, one gold."""
    data = given.work / "data"
    return Settings.model_validate(
        {
            "model": model(given.base, given.shared, "full-s0"),
            "offline": True,
            "request": {
                "goal": "removal",
                "forget": [str(data / "facts.jsonl")],
                "retain": [str(data / "retain.jsonl")],
                "gold": [model(given.base, given.shared, GOLDS[0])],
                "utility_budget": 0.5,
            },
            "audit": {
                "max_new_tokens": 32,
                "attack_records": attacked,
            },
            **tables,
        }
    )


def write_data(given: argparse.Namespace) -> None:
    """Write the facts and the retain records, if they are not there."""
    path = given.work / "data" / "facts.jsonl"
    if not path.is_file():
        whole = given.records == "all"
        write_jsonl(path, everything(given.shared) if whole else stated(given, facts(given.shared)))
    write_retain(given, RETAIN[given.records])


def write_retain(given: argparse.Namespace, size: int) -> None:
    """Write retain records from all over retain90."""
    retain = read_jsonl(given.shared / "data" / "tofu" / "retain90.json")
    spaced = [retain[index * len(retain) // size] for index in range(size)]
    write_jsonl(
        given.work / "data" / "retain.jsonl",
        [{"prompt": row["question"], "completion": row["answer"]} for row in spaced],
    )


def plant(given: argparse.Namespace, name: str) -> None:
    """Train a model that has hidden the facts, merged and, for the refusal, as an adapter too."""
    folder = given.work / name
    if (folder / "config.json").is_file():
        return
    tables = PLANTED[name]
    if name == "npo":
        chosen = {"lr": given.npo_lr, "epochs": given.npo_epochs}
        tables = {**tables, "train": {**tables["train"], **chosen}}
    chosen = settings(given, **tables)
    prepared = prepare(chosen)
    original = load(chosen.model, prepared.source)
    run = work(prepared, original.network)
    started = time.monotonic()
    _, weights = run.run(
        unseen=Unseen(mean=float("inf"), low=float("inf")),
        folder=given.work / f"{name}-checkpoints",
        progress=lambda step, text: print(f"{name} {step} {text}", flush=True),
    )
    if weights.lora is not None:
        save_adapter(
            original.network.model,
            weights.lora,
            weights.masters,
            base=chosen.model,
            folder=given.work / "adapter",
        )
    run.finish(weights)
    save_model(original.network.model, original.tokenizer, folder)
    print(f"{name} planted in {time.monotonic() - started:.0f} s", flush=True)


def reference(given: argparse.Namespace, name: str) -> str:
    """Return how a planted model is named."""
    if name == "gold":
        return model(given.base, given.shared, GOLDS[1])
    return str(given.work / name)


def stress(given: argparse.Namespace, name: str) -> AttackedModel:
    """Attack one planted model."""
    places = {"out": f"attacked-{name}", "attack_store": "shared"}
    attacked = ATTACKED if given.records == "all" else None
    chosen = settings(given, attacked=attacked).model_copy(
        update={key: str(given.work / place) for key, place in places.items()}
    )
    whole = (*(each.name for each in LEVELS[given.level]), *FURTHER.get(name, ()))
    return attack(
        chosen,
        model=reference(given, name),
        choice=AttackOptions(level=given.level, only=tuple(given.only) or whole),
        console=human_console(),
    )


def verdict(name: str, rungs: tuple[AttackRecovery, ...]) -> dict[str, object]:
    """Say whether the bar of a planted model is met by the attacks that were made."""
    fell = [rung.attack for rung in rungs if rung.status is Status.FAIL]
    if name == "gold":
        worst = [rung for rung in rungs if rung.worst is not None and rung.worst.p <= 0.05]
        return {"fell_to": fell, "beyond_chance": [r.attack for r in worst], "met": not worst}
    groups = MUST_FALL[name]
    met = [any(attack_name in fell for attack_name in group) for group in groups]
    return {"fell_to": fell, "must_fall_to_one_of": groups, "met": all(met)}


def main() -> None:
    """Plant, attack, judge."""
    given = arguments()
    write_data(given)
    for name in PLANTED:
        if name in given.models or (name == "refusal" and "adapter" in given.models):
            plant(given, name)
    results = read_json(given.out) if given.out.is_file() else {}
    for name in given.models:
        started = time.monotonic()
        found = stress(given, name)
        results[name] = {
            "level": given.level,
            "facts": len(read_jsonl(given.work / "data" / "facts.jsonl")),
            "seconds": round(time.monotonic() - started, 1),
            "summary": asdict(found.summary),
            "bar": verdict(name, found.rungs),
            "rungs": [asdict(rung) for rung in found.rungs],
        }
        write_json(given.out, results)
        print(f"{name}: {json.dumps(results[name]['bar'])}", flush=True)


if __name__ == "__main__":
    main()
