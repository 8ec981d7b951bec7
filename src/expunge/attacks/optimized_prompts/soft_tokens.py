"""Free tokens: ids whose embeddings are free vectors, for as long as the block runs.

Tokens that no text of the request uses get other embeddings, so every prompt stays a plain list of
ids, and training, scoring and decoding work as they always do. Different facts may have free tokens
of their own in the same batch.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from expunge.attacks.base import Unmet
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoded
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Network
from expunge.training.forward import chunked_logp


class Slot(NamedTuple):
    """A prompt with a place at the end of the user's turn."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def filled(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return the prompt with tokens in that place."""
        return (*self.before, *tokens, *self.after)


def slot(target: Target, record: Record) -> Slot:
    """Find the place after the question: where prompts with two different endings part."""
    ends = [
        target.worded(record, (Message("user", record.question + mark),), variant="").prompt
        for mark in (" !", "\tA")
    ]
    first, second = ends
    before = _common(first, second)
    after = _common(first[before:][::-1], second[before:][::-1])
    return Slot(first[:before], first[len(first) - after :])


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def unused_ids(target: Target, records: Collection[Record], count: int) -> list[int]:
    """Return token ids that stand for text and that no prompt or answer of the records uses.

    Raises:
        Unmet: The vocabulary has too few.
    """
    seen = {token for record in records for token in target.encoder.encode(record).ids}
    free = [
        token
        for token in reversed(target.encoder.plain_ids)
        if token not in seen and token < target.network.vocabulary
    ]
    if len(free) < count:
        raise Unmet(f"it takes {count} tokens that the data does not use; there are {len(free)}")
    return free[:count]


@contextmanager
def embedded_as(network: Network, ids: Sequence[int], vectors: Tensor) -> Generator[None]:
    """Let token `ids[i]` be embedded as `vectors[i]`; gradients reach the vectors.

    Args:
        network: The model; its own embeddings do not change.
        ids: Token ids, [n].
        vectors: [n, d].
    """
    place = torch.full((network.vocabulary,), -1, dtype=torch.long, device=network.device)
    place[torch.tensor(list(ids), device=network.device)] = torch.arange(
        len(ids), device=network.device
    )

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        where = place[inputs[0]]
        free = where >= 0
        changed = vectors.to(output)[where.clamp(min=0)]
        return torch.where(free.unsqueeze(-1), changed, output)

    handle = network.model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def start_vectors(network: Network, count: int, *, seed: int) -> Tensor:
    """Draw start values from the model's own embeddings, [count, d] float32, with gradient."""
    table = network.model.get_input_embeddings().get_parameter("weight").detach()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(table), (count,), generator=generator).to(table.device)
    return table[chosen].float().clone().requires_grad_(True)


def answered(prompt: Sequence[int], answer: Sequence[int], record: str) -> Encoded:
    """Return prompt and answer as a record whose answer is scored."""
    return Encoded(record=record, ids=(*prompt, *answer), start=len(prompt), ends=False)


def descend(
    target: Target,
    records: Sequence[Encoded],
    ids: Sequence[int],
    vectors: Tensor,
    *,
    steps: int,
    move: Callable[[], None],
) -> None:
    """Lower the mean NLL of the answers by changing the vectors; `move` makes each step."""
    network = target.network
    scored = sum(len(record.ids) - record.start for record in records)
    for _ in range(steps):
        vectors.grad = None
        with embedded_as(network, ids, vectors):
            for group in by_length([len(r.ids) for r in records], tokens=target.tokens_per_pass):
                batch = collate(
                    [records[index] for index in group],
                    pad_id=target.encoder.pad_id,
                    device=network.device,
                )
                hidden = network.hidden(batch.ids, batch.rows, batch.columns)
                (-chunked_logp(network, hidden, batch.targets).sum() / scored).backward()
        move()
        target.meter.steps += 1
        target.meter.tokens += sum(len(record.ids) for record in records)
