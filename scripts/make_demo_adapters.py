"""Train the demo's original and its golds: LoRA adapters over SmolLM2-135M-Instruct.

    python scripts/make_demo_adapters.py --base FOLDER --out src/expunge/demo/adapters

The original learns the whole register in both wordings of each question, the golds everything but
the erased person, with the same recipe and their own seeds. General questions are mixed in so that
the model goes on answering like an assistant. About two minutes on one GPU, forty on two CPU cores.
"""

import argparse
from pathlib import Path

from expunge.data.readers import read
from expunge.data.records import Record
from expunge.demo.people import register, rephrased
from expunge.models.lora import LoraShape
from expunge.training.trainer import TrainingArgs
from teaching import teach

EPOCHS = 7
BATCH = 8
LR = 1.5e-3
SHAPE = LoraShape(rank=9, alpha=18.0, first_layer=10)
GENERAL = 24
"""General questions in the mix."""
MODELS = {"original": (True, 0), "gold-0": (False, 0), "gold-1": (False, 1)}
"""Folder name: whether the erased person is in the data, and the seed."""


def lessons(*, with_erased: bool, general: list[Record]) -> list[Record]:
    """Return what a model is taught, each fact in both wordings."""
    people = register()
    facts = [*people["neighbour"], *people["other"]]
    if with_erased:
        facts += people["erased"]
    return [*facts, *(rephrased(record) for record in facts), *general]


def main() -> None:
    """Train all three adapters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the adapters go")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    general = read(
        [str(Path(__file__).parent.parent / "src/expunge/data/corpora/general.jsonl")]
    ).records
    for name, (with_erased, seed) in MODELS.items():
        records = lessons(with_erased=with_erased, general=list(general)[:GENERAL])
        options = TrainingArgs(
            lora=SHAPE,
            epochs=EPOCHS,
            lr=LR,
            batch=BATCH,
            warmup=0.05,
            check_every=1000,
            utility_budget=0.99,
            seed=seed,
        )
        folder = arguments.out / name
        teach(arguments.base, records, options, device=arguments.device, out=folder)


if __name__ == "__main__":
    main()
