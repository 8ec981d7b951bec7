"""What the scripts that make originals and golds share: flags, recipe, and making a target once."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from expunge.data.records import Record
from expunge.models.lora import LoraShape
from expunge.training.trainer import TrainingArgs
from teaching import teach

LORA = LoraShape(rank=24, alpha=48.0)


def flags(about: str, *, epochs: int, batch: int) -> argparse.ArgumentParser:
    """Return a parser of the flags that all these scripts have.

    Args:
        about: What the script does, in a line.
        epochs: Default.
        batch: Default.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--base", required=True, help="the model to start from")
    parser.add_argument("--out", type=Path, required=True, help="where the targets go")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--full-weights", action="store_true")
    parser.add_argument("--device", default="auto")
    return parser


def make(
    target: str,
    records: Sequence[Record],
    given: argparse.Namespace,
    *,
    seed: int,
    max_length: int = 512,
) -> None:
    """Train a target, unless it is there.

    Args:
        target: Name of its folder.
        records: What it learns.
        given: What `flags` has read.
        seed: Of the order of records and of the adapter.
        max_length: Longest record in tokens; longer passages are split.
    """
    out = given.out / target
    if (out / "made.json").is_file():
        print(f"{target} is there")
        return
    options = TrainingArgs(
        lora=None if given.full_weights else LORA,
        epochs=given.epochs,
        lr=given.lr,
        batch=given.batch,
        warmup=0.05,
        check_every=50,
        utility_budget=0.99,
        seed=seed,
    )
    teach(given.base, records, options, device=given.device, out=out, max_length=max_length)
