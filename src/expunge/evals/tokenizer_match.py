"""Which tokens a model reads, where its folder has another tokenizer than the original's.

A tokenizer can hide what weights hold: it may write a name otherwise, or the whole question. So
questions are written by the model's own tokenizer, as its users write them, and likelihoods are
taken of the tokens that its weights read. Those are the original's where the weights predict what
is to be kept better from them than from the tokenizer's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.evidence.collect import Collector
from expunge.models.loading import Loaded
from expunge.models.scoring import score
from expunge.training.early_stopping import spread

_KEPT = ("retain", "neighbours", "generic")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenReading:
    """Who asks a model, and who scores it."""

    asks: Collector
    """Writes questions and reads answers."""
    scores: Collector | None
    """Takes likelihoods; None: they would be of other tokens than the original's."""
    note: str = ""
    """What is said of another tokenizer, without the role; empty where the tokens are the same."""

    @property
    def alike(self) -> bool:
        """Whether the model's tokenizer writes every record as the original's does."""
        return not self.note

    @property
    def whole(self) -> bool:
        """Whether questions and likelihoods are of the same tokens."""
        return self.scores is self.asks


def token_reading(collector: Collector, model: Loaded, own: Encoder) -> TokenReading:
    """Return who asks a model and who scores it.

    Args:
        collector: Asks with the original's tokens.
        model: The model to ask.
        own: How the tokenizer in the model's folder writes records.
    """
    theirs = collector.encoder
    records = [record for group in collector.records.values() for record in group]
    if own.writes_as(theirs, records):
        return TokenReading(asks=collector, scores=collector)
    asks = replace(collector, encoder=own)
    if _reads(collector, model, own):
        note = "likelihoods were taken of the original's tokens, which its weights read; answers"
        return TokenReading(asks=asks, scores=collector, note=f"{note} were given to its own")
    if all(own.pieces(record) == theirs.pieces(record) for record in records):
        note = "it numbers the same tokens otherwise, and was asked with its own numbers"
        return TokenReading(asks=asks, scores=asks, note=note)
    note = "likelihoods would be of other tokens and were not taken; answers were"
    return TokenReading(asks=asks, scores=None, note=note)


def _reads(collector: Collector, model: Loaded, own: Encoder) -> bool:
    """Tell whether weights predict what is to be kept better from the original's tokens."""
    kept = [record for split in _KEPT for record in spread(collector.records.get(split, ()))]
    theirs = _likelihood(collector, model, collector.encoder, kept)
    return theirs is not None and theirs >= (_likelihood(collector, model, own, kept) or theirs)


def _likelihood(
    collector: Collector, model: Loaded, encoder: Encoder, records: Sequence[Record]
) -> float | None:
    """Return the log-probability of all answers together, nats; None where none can be read."""
    encoded = [encoder.encode(record) for record in records]
    rows = model.network.model.get_input_embeddings().get_parameter("weight").shape[0]
    if not encoded or max(max(each.ids) for each in encoded) >= rows:
        return None
    found = score(
        model.network,
        encoded,
        pad_id=encoder.pad_id,
        tokens_per_pass=collector.tokens_per_pass,
        with_z=False,
    )
    return sum(float(each.logp.sum()) for each in found)
