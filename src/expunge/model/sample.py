"""Sampled answers: several to a prompt, drawn from the model's distribution at a temperature."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from expunge.model.generate import extend
from expunge.model.network import Network


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
