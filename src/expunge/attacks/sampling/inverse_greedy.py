"""Inverse-greedy decoding: begin the answer with the least likely token at every step.

Protocol: at each step take the token of text with the lowest logit, for at most `tokens` tokens.
Budget: one short answer a fact. Methods that push the true answer away leave it at the bottom of
the ranking, where reading backwards finds it (arXiv:2608.29943, which reports recovery from five
methods). A model that never saw the fact has nothing in particular there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.generation import Pick, extend
from expunge.training.early_stopping import spread


@dataclass(frozen=True, kw_only=True, slots=True)
class InverseGreedy:
    """The least likely answer."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="sampling", access="T3", needs="questions")

    tokens: int = 12
    """Longest answer; such answers hardly ever end by themselves."""
    most: int | None = None
    """At most how many facts are asked for, evenly spaced; None: all."""

    @property
    def name(self) -> str:
        """Return `inverse-greedy`."""
        return "inverse-greedy"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Write the least likely answer to every question."""
        plain = [target.plain(record) for record in spread(tested, self.most)]
        questions = [question for question in plain if question is not None]
        if not questions:
            raise Unmet("the facts are passages without a question")
        found = extend(
            target.network,
            [question.prompt for question in questions],
            least_likely(target.encoder.plain_ids, target.network.device),
            copies=1,
            end_ids=target.encoder.end_ids,
            max_new_tokens=min(self.tokens, target.max_new_tokens),
            tokens_per_pass=target.tokens_per_pass,
        )
        answers = [answer for (answer,) in found]
        read = sum(len(question.prompt) for question in questions)
        target.meter.tokens += read + sum(map(len, answers))
        return [
            Attempt(
                record=question.record.id,
                told=question.told,
                text=target.encoder.decode(answer),
            )
            for question, answer in zip(questions, answers, strict=True)
        ]


def least_likely(text: Sequence[int], device: torch.device) -> Pick:
    """Return what picks the token of the lowest logit among those that stand for text.

    Args:
        text: Ids of these tokens; rows of the head beyond the tokenizer are never trained, so they
            are left out, and so are special tokens.
        device: Where the logits lie.
    """
    ids = torch.tensor(text, device=device)

    def pick(logits: Tensor) -> Tensor:  # [b, V] -> [b]
        return ids[logits[:, ids].argmin(dim=-1)]

    return pick
