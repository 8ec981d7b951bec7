"""States under the lowest trained block: computed once, read ever after.

Blocks that no gradient reaches and no step changes give the same states for a record every time.
They are kept in memory-mapped files, so that they cost disk and not memory; in a store that runs
share, they are computed once for all that train above the same block of the same model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from expunge.data.encode import Encoded
from expunge.engine.shelf import Key, Shelf, key
from expunge.files import allocate, private
from expunge.model.batch import Batch, by_length
from expunge.model.network import Below, Network, Site
from expunge.model.pack import by_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Lower:
    """The states that block `layer` reads, for every record of a run."""

    layer: int
    known: Mapping[Key, Tensor]
    """[T, d] by record."""

    def find(self, records: Sequence[Encoded], batch: Batch) -> Below | None:
        """Return the states of a batch, if those of all its records are known."""
        if any(key(record) not in self.known for record in records):
            return None
        return self.states(records, batch)

    def states(self, records: Sequence[Encoded], batch: Batch) -> Below:
        """Return the states of a batch: packed as it is, or padded on the right with zeros."""
        first = self.known[key(records[0])]
        if batch.layout is not None:
            shared = batch.layout.shared
            rests = [self.known[key(record)][shared:] for record in records]
            packed = torch.cat([first[:shared], *rests]).unsqueeze(0)
            return Below(self.layer, packed.to(batch.ids.device))
        padded = first.new_zeros(*batch.ids.shape, first.shape[-1])
        for row, record in enumerate(records):
            padded[row, : len(record.ids)] = self.known[key(record)]
        return Below(self.layer, padded.to(batch.ids.device))


def compute_lower(
    network: Network,
    records: Sequence[Encoded],
    *,
    layer: int,
    file: Path,
    pad_id: int,
    tokens_per_pass: int,
) -> Lower:
    """Run the blocks under `layer` on every record and keep what they say in `file`."""
    unique = list({key(record): record for record in records}.values())
    width = network.model.config.get_text_config().hidden_size
    lengths = [len(record.ids) for record in unique]
    private(file.parent)  # states can be turned back into text
    dtype, numbers = network.model.dtype, sum(lengths) * width
    allocate(file, numbers * dtype.itemsize)
    store = torch.from_file(str(file), shared=True, size=numbers, dtype=dtype).view(-1, width)
    known = dict(zip(map(key, unique), store.split(lengths), strict=True))
    _fill(network, unique, known, layer=layer, pad_id=pad_id, tokens_per_pass=tokens_per_pass)
    return Lower(layer=layer, known=known)


def shared_lower(
    network: Network,
    records: Sequence[Encoded],
    *,
    layer: int,
    shelf: Shelf,
    pad_id: int,
    tokens_per_pass: int,
) -> Lower:
    """Take from a shelf what the blocks under `layer` say, and put there what is missing."""
    unique = list({key(record): record for record in records}.values())
    kind = f"below-{layer}"
    known = shelf.find(kind, unique)
    missing = [record for record in unique if key(record) not in known]
    if missing:
        sizes = {key(record): len(record.ids) for record in missing}
        width = network.model.config.get_text_config().hidden_size
        with shelf.room(kind, sizes, width=width, dtype=network.model.dtype) as room:
            _fill(
                network, missing, room, layer=layer, pad_id=pad_id, tokens_per_pass=tokens_per_pass
            )
        known |= room
    return Lower(layer=layer, known=known)


@torch.no_grad()
def _fill(
    network: Network,
    records: Sequence[Encoded],
    known: Mapping[Key, Tensor],
    *,
    layer: int,
    pad_id: int,
    tokens_per_pass: int,
) -> None:
    """Run the blocks under `layer` and write what they say to the place of each record, [T, d]."""
    site = Site(layer - 1)
    for group in by_length([len(record.ids) for record in records], tokens=tokens_per_pass):
        chosen = [records[index] for index in group]
        batch = network.batch(chosen, pad_id=pad_id)
        seen = network.observe(batch.ids, sites=(site,), final=False, layout=batch.layout)
        for record, states in zip(chosen, by_record(seen.states[site], batch), strict=True):
            known[key(record)].copy_(states[: len(record.ids)])
