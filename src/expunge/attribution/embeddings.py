"""Embeddings: what a record is about, by the model's own states. Nothing is downloaded.

    e_i = mean over tokens of h_t(middle block) - mean over all records of the same
    s(q, d) = <e_q, e_d> / (|e_q| |e_d|)

h are the states after the middle block. The mean over records is what all prompts share.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Network, Site

TOKENS = 2048
"""Padded tokens of one pass."""


@torch.no_grad()
def embeddings(
    network: Network, records: Sequence[Encoded], *, pad_id: int, done: Callable[[int], None]
) -> Tensor:
    """Return centred embeddings, [records, d] float32.

    Args:
        network: The model.
        records: At least one.
        pad_id: Any token id.
        done: Called with the number of records that were finished.
    """
    site = Site(len(network.layers) // 2)
    found: dict[int, Tensor] = {}
    for group in by_length([len(record.ids) for record in records], tokens=TOKENS):
        batch = collate([records[i] for i in group], pad_id=pad_id, device=network.device)
        states = network.observe(batch.ids, sites=[site], final=False).states[site]
        for row, index in enumerate(group):
            found[index] = states[row, : len(records[index].ids)].float().mean(0).cpu()
        done(len(group))
    stacked = torch.stack([found[index] for index in range(len(records))])
    return stacked - stacked.mean(0)
