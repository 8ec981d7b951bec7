"""Preparation of a fine-tuning: from recipe and records to what the engine trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from expunge.config.settings import FinetuneSettings
from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.methods.finetune import Finetune
from expunge.models.loading import Source, choose_device, load_config, load_tokenizer
from expunge.models.number_formats import in_precision
from expunge.models.transformer import Network
from expunge.preparation.prepare import require_targets, training_options
from expunge.training.sampler import ContentSampler, Streams
from expunge.training.trainable_weights import everything
from expunge.training.trainer import Trainer, TrainingArgs
from expunge.utils.io import sha256_json
from expunge.utils.system import cache_folder

_KEPT_AT = {"adapter": (1 / 16, 1 / 8, 1 / 4, 1 / 2), "full": (1 / 8, 1 / 2)}
"""After which share of the first pass a checkpoint is kept. The first use of k records comes after
a share of 1 / (k + 1) on average, so they lie closer at the beginning."""
_RESUMES = {"adapter": 10, "full": 4}
"""How often a run writes its state, to go on from after a kill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneJob:
    """All inputs of a fine-tuning but the weights."""

    settings: FinetuneSettings
    source: Source
    config: PreTrainedConfig
    encoder: Encoder
    records: tuple[Record, ...]
    parts: tuple[Encoded, ...]
    """What is trained on: a record, or one part of a long passage."""
    owners: tuple[int, ...]
    """The record of each part, by index."""
    order: ContentSampler
    options: TrainingArgs

    @property
    def kept_steps(self) -> frozenset[int]:
        """Steps after which a checkpoint is kept for replays."""
        first = self.order.steps_per_epoch
        steps = (round(share * first) for share in _KEPT_AT[_kind(self.settings)])
        return frozenset(step for step in steps if step)

    def parts_of(self, records: frozenset[int]) -> frozenset[int]:
        """Return the parts of some records, all by index."""
        return frozenset(part for part, owner in enumerate(self.owners) if owner in records)

    def trainer(self, network: Network) -> Trainer:
        """Return the training, ready to run; of all weights, those of routers train as well."""
        whole = self.options.lora is None and self.options.only is None
        return Trainer(
            method=Finetune(),
            network=network,
            streams=Streams(forget=self.parts, retain=()),
            options=self.options,
            pad_id=self.encoder.pad_id,
            weights=everything(network, routers=True) if whole else None,
            content_order=self.order,
            watched=False,
            save_at=self.kept_steps,
        )


def prepare_finetune(
    settings: FinetuneSettings, records: Sequence[Record], *, offline: bool = False
) -> FinetuneJob:
    """Turn recipe and records into what the engine trains on; no weight is loaded.

    Args:
        settings: The recipe.
        records: What to train on, of its data.
        offline: Never use the network.

    Raises:
        InputError: Model or records are not there or not well formed.
        UsageError: The recipe names layers that the model does not have.
    """
    train = settings.train
    given = Source(
        device=choose_device(settings.device),
        dtype=torch.float32,
        offline=offline,
        cache=cache_folder(),
    )
    source = in_precision(given, settings.precision, settings.model)
    config = load_config(settings.model, source)
    options = training_options(train, 0.5, config.get_text_config().num_hidden_layers)
    require_targets(config, options)
    tokenizer = load_tokenizer(settings.model, source)
    encoder = Encoder(tokenizer, settings.template, max_length=train.max_length)
    pieces = [(i, piece) for i, r in enumerate(records) for piece in encoder.split_long([r])]
    order = ContentSampler.of(
        [sha256_json([piece.prompt, piece.completion]) for _, piece in pieces],
        batch=train.batch,
        epochs=train.epochs or Finetune.recipe.epochs,
        seed=train.seed,
    )
    writes = -(-len(order.draws) // _RESUMES[_kind(settings)])
    return FinetuneJob(
        settings=settings,
        source=source,
        config=config,
        encoder=encoder,
        records=tuple(records),
        parts=tuple(encoder.encode(piece) for _, piece in pieces),
        owners=tuple(owner for owner, _ in pieces),
        order=order,
        options=options.model_copy(update={"check_every": writes}),
    )


def complete(settings: FinetuneSettings) -> FinetuneSettings:
    """Return a recipe that names everything: full paths, and defaults as they are in this version.

    Args:
        settings: A recipe as a user gives it.
    """
    train, default = settings.train, Finetune.recipe
    rate = default.lr if train.full else default.lr_lora
    named = {"epochs": train.epochs or default.epochs, "lr": train.lr or rate}
    return settings.anywhere().model_copy(update={"train": train.model_copy(update=named)})


def _kind(settings: FinetuneSettings) -> str:
    return "full" if settings.train.full else "adapter"
