"""States under the lowest trained block: computed once, read ever after.

Blocks that no gradient reaches and no step changes give the same states for a record every time.
They are kept in one memory-mapped file, so that they cost disk and not memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from expunge.data.encode import Encoded
from expunge.engine.reference import Key, key
from expunge.model.batch import Batch, by_length
from expunge.model.network import Below, Network, Site
from expunge.model.pack import by_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Lower:
    """The states that block `layer` reads, for every record of a run."""

    layer: int
    known: Mapping[Key, Tensor]
    """[T, d] by record."""

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


@torch.no_grad()
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
    offsets = [0]
    for record in unique:
        offsets.append(offsets[-1] + len(record.ids))
    file.parent.mkdir(parents=True, exist_ok=True)
    store = torch.from_file(
        str(file), shared=True, size=offsets[-1] * width, dtype=network.model.dtype
    ).view(-1, width)
    site = Site(layer - 1)
    for group in by_length([len(record.ids) for record in unique], tokens=tokens_per_pass):
        chosen = [unique[index] for index in group]
        batch = network.batch(chosen, pad_id=pad_id)
        seen = network.observe(batch.ids, sites=(site,), final=False, layout=batch.layout)
        for index, states in zip(group, by_record(seen.states[site], batch), strict=True):
            length = len(unique[index].ids)
            store[offsets[index] : offsets[index] + length] = states[:length]
    known = {
        key(record): store[start : start + len(record.ids)]
        for record, start in zip(unique, offsets[:-1], strict=True)
    }
    return Lower(layer=layer, known=known)
