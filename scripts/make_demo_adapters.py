"""Train the demo's original and its golds: LoRA adapters over SmolLM2-135M-Instruct.

    python scripts/make_demo_adapters.py --base FOLDER --out src/expunge/demo/adapters

The original learns the whole register in both wordings of each question, the golds everything but
the erased person, with the same recipe and their own seeds. General questions are mixed in so that
the model goes on answering like an assistant. About two minutes on one GPU, forty on two CPU cores.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from expunge.data.encode import Encoded, Encoder
from expunge.data.read import read
from expunge.data.record import Record
from expunge.demo.people import register, rephrased
from expunge.engine.loop import Schedule, train
from expunge.engine.observe import Observer
from expunge.engine.reference import precompute
from expunge.engine.streams import Order, Streams
from expunge.engine.watch import Unseen, Watch
from expunge.engine.weights import adapter
from expunge.methods.retain import nll
from expunge.methods.terms import Likelihood, Recipe, Shape, Stream, Term, Trains
from expunge.model.load import Source, choose_device, load
from expunge.model.lora import LoraShape, save_adapter

EPOCHS = 7
BATCH = 8
LR = 1.5e-3
SHAPE = LoraShape(rank=9, alpha=18.0, first_layer=10)
GENERAL = 24
"""General questions in the mix."""
MODELS = {"original": (True, 0), "gold-0": (False, 0), "gold-1": (False, 1)}
"""Folder name: whether the erased person is in the data, and the seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memorise:
    """Plain fine-tuning: token mean of -log p over all records."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "makes models to be unlearned"
    recipe: ClassVar[Recipe] = Recipe(epochs=EPOCHS, lr=LR, lr_lora=LR)

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the one term."""
        return (Likelihood(name="nll", streams=(Stream.FORGET,), coef=1.0, per="token", loss=nll),)

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the caller."""
        return None


def lessons(*, with_erased: bool, general: list[Record]) -> list[Record]:
    """Return what a model is taught, each fact in both wordings."""
    people = register()
    facts = [*people["neighbour"], *people["other"]]
    if with_erased:
        facts += people["erased"]
    return [*facts, *(rephrased(record) for record in facts), *general]


def teach(base: str, records: list[Record], *, seed: int, device: str, out: Path) -> None:
    """Train one adapter and save it in PEFT's format."""
    where = choose_device(device)
    loaded = load(base, Source(device=where, dtype=torch.float32))
    encoder = Encoder(loaded.tokenizer)
    encoded: tuple[Encoded, ...] = tuple(encoder.encode(record) for record in records)
    weights = adapter(loaded.network, SHAPE, seed=seed)
    terms = Memorise().terms(Shape(layers=1, width=1))
    order = Order(forget=len(encoded), retain=0, forget_batch=BATCH, retain_batch=0, seed=seed)
    steps = EPOCHS * order.steps_per_epoch
    observer = Observer(
        network=loaded.network,
        terms=terms,
        streams=Streams(forget=encoded, retain=()),
        references=precompute(loaded.network, terms, {}, pad_id=0, tokens_per_pass=1),
        pad_id=encoder.pad_id,
    )
    watch = Watch(
        forget=encoded[:8],
        retain=(),
        unseen=Unseen(mean=float("inf"), low=float("inf")),
        utility_budget=1.0,
        pad_id=encoder.pad_id,
        tokens_per_pass=4096,
    )
    schedule = Schedule(
        steps=steps,
        lr=LR,
        warmup=0.05,
        weight_decay=0.0,
        clip=1.0,
        tokens_per_pass=4096,
        check_every=steps,
    )
    with tempfile.TemporaryDirectory() as scratch:
        done = train(
            observer,
            weights,
            order=order,
            schedule=schedule,
            watch=watch,
            folder=Path(scratch),
            progress=lambda step, text: print(
                f"\r{out.name} {step}/{steps} {text}", end="", flush=True
            ),
        )
    masters = {name: value.to(torch.bfloat16) for name, value in weights.masters.items()}
    save_adapter(loaded.network.model, SHAPE, masters, base="SmolLM2-135M-Instruct", folder=out)
    print(
        f"\n{out.name}: {done.steps} steps, {done.seconds:.0f} s, {done.curve[-1].values}",
        flush=True,
    )


def main() -> None:
    """Train all three adapters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the adapters go")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    general = read([str(Path(__file__).parent.parent / "src/expunge/data/general.jsonl")]).records
    for name, (with_erased, seed) in MODELS.items():
        records = lessons(with_erased=with_erased, general=list(general)[:GENERAL])
        folder = arguments.out / name
        teach(arguments.base, records, seed=seed, device=arguments.device, out=folder)


if __name__ == "__main__":
    main()
