"""What the rows of `engine.py` work on: SmolLM2-135M and TOFU."""

import argparse
from pathlib import Path

import torch
from transformers import PreTrainedModel

from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.models.loading import Loaded, Source, load
from expunge.training.sampler import Sampler, Streams
from sides import common

BATCH = 8
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def streams(shared: Path, encoder: Encoder) -> Streams:
    """Return TOFU's forget10 and retain90."""
    tofu = shared / "data" / "tofu"
    forget, retain = (read([str(tofu / f"{name}.json")]) for name in ("forget10", "retain90"))
    return Streams(
        forget=tuple(encoder.encode(record) for record in forget.records),
        retain=tuple(encoder.encode(record) for record in retain.records),
    )


def order_of(data: Streams) -> Sampler:
    """Return the order in which both sides see the records."""
    return Sampler(
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
