"""Answers in batches: prompts sorted by length, finished rows leave the batch at once.

Sampled answers: several to a prompt, drawn from the model's distribution at a temperature.

Weights in the order in which a processor's products read them, while tokens are written: a product
with few rows takes its weights apart into the blocks that the processor's units work on, every time
anew, and that takes as long as the arithmetic. Who writes a token at a time multiplies by the same
weights again and again: here oneDNN puts a copy of them into that order once.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from expunge.methods.guards.base import Ids
from expunge.models.batching import by_beginning, by_length, in_parts
from expunge.models.cpu_kernels import PlainLinear, multiplies, multiply, reorder
from expunge.models.guarded import AssistantLogits, StartedAnswers, begun_answers
from expunge.models.lora import LoraLinear
from expunge.models.transformer import Network, new_cache

Pick = Callable[[Tensor], Tensor]
"""Chooses the next token of each row: float32 logits [b, V] -> token ids [b] on their device."""
Enough = Callable[[Sequence[int]], bool]
"""Decides from the new tokens of an answer whether it ends here; they stay part of it."""
LARGEST = 2 * 1024**3
"""Bytes of weights of which a copy is made; beyond it memory is dearer than time."""
WORTH_TOKENS = 16
"""Fewest new tokens for which putting weights in order pays: it takes as long as about five."""


def greedy(
    network: Network,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Collection[int],
    max_new_tokens: int,
    tokens_per_pass: int,
    begun: Sequence[int] | None = None,
    enough: Enough | None = None,
) -> list[tuple[int, ...]]:
    """Continue every prompt with the most likely token until an end token or the limit.

    Args:
        network: The model, in evaluation mode; its guard, if any, is applied.
        prompts: Token ids of each prompt, none of them empty.
        end_ids: Tokens that end an answer; they are not part of what is returned.
        max_new_tokens: Longest answer.
        tokens_per_pass: Largest number of padded prompt tokens in one batch; where memory is full
            the batch is halved.
        begun: How many tokens at the end of each prompt already are of its answer; default none.
        enough: What else ends an answer, such as a text that it holds; default nothing.

    Returns:
        The new tokens of each prompt, in the order given.
    """
    answers = extend(
        network,
        prompts,
        lambda logits: logits.argmax(dim=-1),
        copies=1,
        end_ids=end_ids,
        max_new_tokens=max_new_tokens,
        tokens_per_pass=tokens_per_pass,
        begun=begun,
        enough=enough,
    )
    return [answer for (answer,) in answers]


@torch.no_grad()
def extend(
    network: Network,
    prompts: Sequence[Sequence[int]],
    pick: Pick,
    *,
    copies: int,
    end_ids: Collection[int],
    max_new_tokens: int,
    tokens_per_pass: int,
    begun: Sequence[int] | None = None,
    enough: Enough | None = None,
) -> list[list[tuple[int, ...]]]:
    """Continue every prompt several times with the tokens that `pick` chooses; see `greedy`.

    Each prompt is read once, whatever the number of copies, and what several begin with once for
    all of these; `tokens_per_pass` counts all copies.

    Returns:
        For each prompt, in the order given, the new tokens of its copies.
    """
    answers: list[list[tuple[int, ...]]] = [[] for _ in prompts]
    said = begun_answers(network, prompts, begun, tokens=tokens_per_pass)
    prompts = [answer.read for answer in said]
    with reordered(network, tokens=max_new_tokens):
        openings = _openings(network, prompts, limit=max_new_tokens)
        own = [len(p) - each.length for p, each in zip(prompts, openings, strict=True)]

        def write(group: Sequence[int]) -> None:
            texts = _continue(
                network,
                [said[index] for index in group],
                pick,
                copies,
                [openings[index] for index in group],
                end_ids=end_ids,
                limit=max_new_tokens,
                enough=enough,
            )
            for place, index in enumerate(group):
                answers[index] = texts[place * copies : (place + 1) * copies]

        for group in by_length([length * copies for length in own], tokens=tokens_per_pass):
            in_parts(group, write)
    return answers


class _Opening(NamedTuple):
    """What a prompt and others begin with, as the model has read it."""

    length: int
    cache: DynamicCache | None


_NOTHING_READ = _Opening(0, None)


def _openings(network: Network, prompts: Sequence[Ids], *, limit: int) -> list[_Opening]:
    """Read what prompts begin with, once for all that share it; return the opening of each.

    A guard has to see prompts whole, and so has attention that looks through a window, for padding
    will lie between the opening and the rest.
    """
    found = [_NOTHING_READ] * len(prompts)
    longest = max(map(len, prompts), default=0) + limit
    if network.guard is not None or longest > network.packs_up_to:
        return found
    for length, rows in by_beginning(prompts):
        if length:
            read = _Opening(length, network.read(prompts[rows[0]][:length]))
            for row in rows:
                found[row] = read
    return found


def _begin(network: Network, openings: Sequence[_Opening]) -> tuple[DynamicCache, Tensor]:
    """Return the cache of a batch whose rows go on from their openings, and its mask.

    Shorter openings have padding before them; the mask, [b, longest opening], is 1 where there is a
    token.
    """
    cache, longest = new_cache(network.model.config), max(each.length for each in openings)
    mask = torch.zeros(len(openings), longest, dtype=torch.long, device=network.device)
    for row, opening in enumerate(openings):
        mask[row, longest - opening.length :] = 1
    for place, layer in enumerate(cache.layers):
        parts = [None if each.cache is None else _states(each.cache, place) for each in openings]
        like = next((part for part in parts if part is not None), None)
        if like is None:  # nothing was read, or the block does not run
            continue
        assert isinstance(layer, CacheLayerMixin)
        layer.update(
            _side_by_side([part and part[0] for part in parts], like[0], longest),
            _side_by_side([part and part[1] for part in parts], like[1], longest),
        )
    return cache, mask


def _states(cache: DynamicCache, place: int) -> tuple[Tensor, Tensor] | None:
    """Return keys and values of a block, [1, heads, L, d] each; None where there are none."""
    layer = cache.layers[place]
    if not isinstance(layer, CacheLayerMixin) or layer.keys is None or layer.values is None:
        return None
    return layer.keys, layer.values


def _side_by_side(parts: Sequence[Tensor | None], like: Tensor, longest: int) -> Tensor:
    """Lay states of [1, heads, L, d] below each other, each at the end of `longest` columns."""
    found = like.new_zeros(len(parts), like.shape[1], longest, like.shape[3])
    for row, part in enumerate(parts):
        if part is not None:
            found[row, :, longest - part.shape[2] :] = part[0]
    return found


def _continue(
    network: Network,
    answers: Sequence[StartedAnswers],
    pick: Pick,
    copies: int,
    openings: Sequence[_Opening],
    *,
    end_ids: Collection[int],
    limit: int,
    enough: Enough | None,
) -> list[tuple[int, ...]]:
    """Continue a batch of prompts.

    Padding lies between the opening and a prompt's own tokens, so that the last column holds the
    last token of every row.
    """
    pairs = list(zip(answers, openings, strict=True))
    ids, mask, positions = left_padded([a.read[o.length :] for a, o in pairs], network.device)
    cache, before = _begin(network, openings)
    positions = before.sum(-1, keepdim=True) + positions
    mask = torch.cat([before, mask], dim=-1)
    aside = AssistantLogits(network, answers)
    written: list[list[int]] = [[] for _ in range(len(answers) * copies)]
    alive = list(range(len(written)))
    for step in range(limit):
        logits = next_logits(network, ids, mask, positions, cache)
        aside.read(ids, mask, positions)
        if step == 0 and copies > 1:
            cache.batch_repeat_interleave(copies)
            aside.repeat(copies)
            logits, mask, positions = (
                rows.repeat_interleave(copies, dim=0) for rows in (logits, mask, positions)
            )
        chosen = pick(aside.bent(logits, [tuple(written[slot]) for slot in alive]))
        keep: list[int] = []
        for slot, token in enumerate(chosen.tolist()):
            if token not in end_ids:
                answer = written[alive[slot]]
                answer.append(token)
                if enough is None or not enough(answer):
                    keep.append(slot)
        if not keep:
            break
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=network.device)
            cache.batch_select_indices(index)
            aside.select(index)
            mask, positions, chosen = mask[index], positions[index], chosen[index]
            alive = [alive[slot] for slot in keep]
        ids = chosen.unsqueeze(-1)
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        positions = positions[:, -1:] + 1
    return [tuple(tokens) for tokens in written]


class Padded(NamedTuple):
    """Prompts side by side, [b, longest], padded first: the last column holds every last token."""

    ids: Tensor
    mask: Tensor
    """1 where there is a token."""
    positions: Tensor


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> Padded:
    """Put prompts side by side, padding first."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return Padded(ids.to(device), mask.to(device), positions.to(device))


def next_logits(
    network: Network, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache
) -> Tensor:
    """Read tokens that follow those in the cache, and return the logits of the next, [b, V]."""
    hidden = network.go_on(ids, cache, attention_mask=mask, position_ids=positions)
    return network.logits(hidden[:, -1])


def sample(
    network: Network,
    prompts: Sequence[Sequence[int]],
    *,
    samples: int,
    temperature: float,
    generator: torch.Generator,
    end_ids: Collection[int],
    max_new_tokens: int,
    tokens_per_pass: int,
) -> list[list[tuple[int, ...]]]:
    """Continue every prompt several times with tokens drawn from softmax(logits / temperature).

    Args:
        network: The model, in evaluation mode.
        prompts: Token ids of each prompt, none of them empty.
        samples: Answers to each prompt; each prompt is read once.
        temperature: Above 0; 1 is the model's own distribution.
        generator: The only source of randomness, on the CPU: one number a token.
        end_ids: Tokens that end an answer; they are not part of what is returned.
        max_new_tokens: Longest answer.
        tokens_per_pass: Largest number of padded prompt tokens in one batch, samples counted.

    Returns:
        For each prompt, in the order given, the new tokens of its samples.
    """
    return extend(
        network,
        prompts,
        lambda logits: draw(logits, temperature, generator),
        copies=samples,
        end_ids=end_ids,
        max_new_tokens=max_new_tokens,
        tokens_per_pass=tokens_per_pass,
    )


def draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw one token a row from softmax(logits / temperature); [b, V] -> [b].

    The inverse of the cumulative distribution: cheaper than noise for every token of the
    vocabulary, and the same on every device as far as the logits are.
    """
    heights = torch.softmax(logits / temperature, dim=-1).cumsum(-1)
    # In (0, 1]: a token of probability zero has no height of its own and cannot be reached.
    share = 1 - torch.rand(len(logits), 1, generator=generator)
    return torch.searchsorted(heights, share.to(heights) * heights[:, -1:]).squeeze(-1)


@contextmanager
def reordered(network: Network, *, tokens: int) -> Generator[None]:
    """Let linear layers multiply by reordered copies of their weights, where that is worth it.

    The results are those of the plain layers up to rounding, and have no gradient. Weights must
    not change meanwhile.

    Args:
        network: The model. Adapters, weights of other kinds than PyTorch's own, and what lies on a
            card are left as they are.
        tokens: How many tokens will be written at most, one after the other.
    """
    layers = _layers(network.model) if tokens >= WORTH_TOKENS else []
    if sum(layer.weight.nbytes for layer in layers) > LARGEST:
        layers = []
    with ExitStack() as stack:
        for layer in layers:
            own = vars(layer)
            own["forward"] = partial(multiply, weight=reorder(layer.weight), bias=layer.bias)
            stack.callback(own.pop, "forward")
        yield


def _layers(model: nn.Module) -> list[nn.Linear]:
    """Return the layers that can be reordered, without the base layers of adapters.

    These are never called: the adapter computes their product.
    """
    bases = {module.base for module in model.modules() if isinstance(module, LoraLinear)}
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return [layer for layer in linear if layer not in bases and _is_plain(layer)]


def _is_plain(layer: nn.Linear) -> bool:
    weight = layer.weight
    return (
        type(layer) in (nn.Linear, PlainLinear)
        and type(weight) is nn.Parameter  # a quantised or a spread weight is of a class of its own
        and "forward" not in vars(layer)
        and weight.device.type == "cpu"
        and multiplies(weight.dtype)
    )
