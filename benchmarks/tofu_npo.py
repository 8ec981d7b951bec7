"""TOFU on SmolLM2-135M: NPO on the first 40 records of forget10, held against two golds.

    python benchmarks/tofu_npo.py --base FOLDER --shared ../shared

Original `full-s0`, golds `retain90-s0` and `retain90-s1`. The bar: extraction strength on the
forget records falls to within the gold's interval while the probability of retain answers falls by
less than 5 %. Prints a Markdown table and writes `benchmarks/results/tofu_npo.json`.
"""

import argparse
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from expunge.data.tokenization import Encoder
from expunge.evidence.collect import Collector
from expunge.evidence.store import EvidenceStore
from expunge.methods.npo import NPO
from expunge.models.loading import Loaded, Source, choose_device, load
from expunge.models.lora import LoraShape
from expunge.training.early_stopping import unseen_level
from expunge.training.sampler import Streams
from expunge.training.train_loop import Trained
from expunge.training.trainer import Trainer, TrainingArgs
from expunge.utils.io import write_json
from tofu import GOLDS, Row, holdout_nlls, measure, model, sets

TARGETS = ("gate_proj", "up_proj", "down_proj")
"""Facts are looked up in the MLPs of the lower blocks: adapters there disturb the rest least."""
RESULT = Path(__file__).parent / "results" / "tofu_npo.json"


def show(rows: list[Row]) -> str:
    """Return the Markdown table."""

    def cell(estimate: tuple[float, float, float]) -> str:
        return f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"

    head = "| model | forget ES | forget p | retain ES | retain p |\n|---|---|---|---|---|"
    lines = [
        f"| {row.model} | {cell(row.forget_strength)} | {cell(row.forget_probability)} "
        f"| {cell(row.retain_strength)} | {cell(row.retain_probability)} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--gamma", type=float, default=0.3)
    parser.add_argument("--beta", type=float, default=0.02)
    parser.add_argument("--alpha", type=float, default=40.0)
    parser.add_argument("--last-layer", type=int, default=14)
    return parser.parse_args()


def unlearn(
    collector: Collector, original: Loaded, given: argparse.Namespace, scratch: Path
) -> tuple[Trainer, Trained, float]:
    """Make the original forget; return the run, what it did and how many seconds it took."""
    nlls = holdout_nlls(collector, original)
    encoder, records = collector.encoder, collector.records
    run = Trainer(
        method=NPO(beta=given.beta, gamma=given.gamma, alpha=given.alpha, retain="kl"),
        network=original.network,
        streams=Streams(
            forget=tuple(encoder.encode(record) for record in records["forget"]),
            retain=tuple(encoder.encode(record) for record in records["trained"]),
        ),
        options=TrainingArgs(
            lora=LoraShape(rank=16, alpha=32.0, targets=TARGETS, last_layer=given.last_layer),
            steps=given.steps,
            lr=given.lr,
            batch=8,
            retain_batch=12,
            check_every=5,
        ),
        pad_id=encoder.pad_id,
    )
    started = time.monotonic()
    trained, weights = run.run(
        unseen=unseen_level(nlls, original.network.vocabulary),
        folder=scratch / "checkpoints",
        progress=lambda step, text: print(f"{step} {text}", flush=True),
    )
    run.finish(weights)
    return run, trained, time.monotonic() - started


def main() -> None:
    """Measure original and golds, unlearn, measure again."""
    given = arguments()
    device = choose_device(given.device)
    source = Source(device=device, dtype=torch.float32)
    original = load(model(given.base, given.shared, "full-s0"), source)
    with tempfile.TemporaryDirectory() as scratch:
        collector = Collector(
            store=EvidenceStore(Path(scratch) / "evidence"),
            encoder=Encoder(original.tokenizer),
            records=sets(given.shared),
            max_new_tokens=1,
            tokens_per_pass=4096,
        )
        rows = [measure(collector, original, "original")]
        for seed, adapter in enumerate(GOLDS):
            gold = load(model(given.base, given.shared, adapter), source)
            rows.append(measure(collector, gold, f"gold-{seed}"))
        print(show(rows), flush=True)
        run, trained, seconds = unlearn(collector, original, given, Path(scratch))
        rows.append(measure(collector, original, "unlearned"))
    print(show(rows))
    print(f"{trained.steps} steps, {seconds:.0f} s, {trained.stopped}")
    lost = 1 - rows[-1].retain_probability[0] / rows[0].retain_probability[0]
    met = rows[-1].forget_strength[0] <= rows[1].forget_strength[2] and lost < 0.05
    print(f"retain probability lost {lost:.1%}; bar {'met' if met else 'NOT met'}")
    write_json(
        RESULT,
        {
            "command": "python benchmarks/tofu_npo.py --base FOLDER --shared ../shared",
            "method": {"name": "npo", **asdict(run.method)},
            "options": run.options.model_dump(mode="json"),
            "rows": [asdict(row) for row in rows],
            "steps": trained.steps,
            "stopped": trained.stopped,
            "seconds": round(seconds, 1),
            "retain_probability_lost": lost,
            "bar_met": met,
            "device": device.type,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        },
    )


if __name__ == "__main__":
    main()
