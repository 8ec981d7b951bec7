"""What the engine provides to an edit, on a tiny model."""

from dataclasses import replace

import tiny
from expunge.methods.base import Shape, Stream
from expunge.training.early_stopping import EarlyStopping
from expunge.training.edit_context import EditContext
from expunge.training.sampler import Streams
from expunge.training.trainable_weights import everything
from random_records import FORGET, RETAIN, STREAMS
from taught_tiny import NEVER

FOCUSED = tuple(replace(record, focus=record.start - 1) for record in FORGET)


UNKNOWN = tiny.encoded((6, 3), (5, 3), (7, 3), (4, 3), seed=11)


SETS = Streams(
    forget=FOCUSED,
    retain=RETAIN,
    variants={**STREAMS.variants, Stream.UNANSWERABLE: tuple((r,) for r in UNKNOWN)},
)


def lend(network, streams=SETS) -> EditContext:
    watch = EarlyStopping(
        forget=streams.forget,
        retain=streams.retain,
        unseen=NEVER,
        utility_budget=0.5,
        pad_id=2,
        tokens_per_pass=40,
    )
    return EditContext(
        network=network,
        shape=Shape(layers=2, width=64),
        streams=streams,
        trained=everything(network),
        watch=watch,
        first=watch.look(network),
        pad_id=2,
        tokens_per_pass=40,
        seed=0,
        tell=lambda share, text: None,
        trainer=lambda training, progress: None,
    )
