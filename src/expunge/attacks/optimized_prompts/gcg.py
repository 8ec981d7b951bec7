"""GCG: a universal suffix of real tokens, found by greedy coordinate gradient.

    gradient of the mean NLL of the answers with respect to the one-hot of every suffix token;
    `width` candidates, each with one token replaced by one of the `top` best of its place;
    the candidate with the lowest loss is kept

Protocol: one suffix after the questions, fitted to the answers of a few facts of one half, tested
on the other half, greedy; then the halves change places (arXiv:2307.15043, universal form).
Candidates are scored in batches behind the cached beginning of each prompt. A candidate whose text
is read as other tokens is dropped before it is scored: what is found can be typed. Budget: at most
steps x width x facts candidate passes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.optimized_prompts.soft_tokens import Slot, answered, descend, slot, unused_ids
from expunge.attacks.target import Question, Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta

_TRIES = 2000
"""Tokens that a suffix is tried to begin with."""


class _Goal(NamedTuple):
    """One fact that the suffix is fitted to."""

    record: Record
    place: Slot
    answer: tuple[int, ...]
    begun: DynamicCache
    """What the model has read before the suffix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GCG:
    """One suffix for all facts."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="prompts", access="T3", learns=True, needs="questions; two facts"
    )

    length: int = 20
    steps: int = 50
    width: int = 64
    top: int = 256
    facts: int = 4

    @property
    def name(self) -> str:
        """Return `gcg`."""
        return "gcg"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Search on the used facts, ask for the tested ones."""
        asked = [record for record in tested if record.prompt]
        known = [record for record in used if record.prompt]
        random.Random(f"{target.seed} gcg").shuffle(known)
        if not asked or not known:
            raise Unmet("too few questions to fit a prompt to some and test others")
        goals = [self._goal(target, record) for record in known[: self.facts]]
        suffix = self._search(target, goals, unused_ids(target, known, self.length))
        return target.ask([behind(target, record, suffix) for record in asked])

    def _goal(self, target: Target, record: Record) -> _Goal:
        encoded = target.encoder.encode(record)
        place = slot(target, record)
        begun = target.network.read(place.before)
        return _Goal(record, place, encoded.ids[encoded.start :], begun)

    def _search(self, target: Target, goals: Sequence[_Goal], free: Sequence[int]) -> list[int]:
        generator = torch.Generator().manual_seed(target.seed)
        words = torch.tensor(
            [token for token in target.encoder.plain_ids if token < target.network.vocabulary]
        )
        suffix = self._start(target, goals[0], generator)
        best = float(losses(target, goals, suffix.unsqueeze(0))[0])
        for _ in range(self.steps):
            slopes = self._gradient(target, goals, free, suffix)[:, words]
            options = words[(-slopes).topk(min(self.top, len(words)), dim=1).indices]
            candidates = suffix.repeat(self.width, 1)
            places = torch.randint(self.length, (self.width,), generator=generator)
            picks = torch.randint(options.shape[1], (self.width,), generator=generator)
            candidates[torch.arange(self.width), places] = options[places, picks]
            kept = [
                survives(target, goals[0].record, goals[0].place, each)
                for each in candidates.tolist()
            ]
            candidates = candidates[torch.tensor(kept)]
            if not len(candidates):
                continue
            found = losses(target, goals, candidates)
            if float(found.min()) < best:
                best, suffix = float(found.min()), candidates[int(found.argmin())]
        return suffix.tolist()

    def _start(self, target: Target, goal: _Goal, generator: torch.Generator) -> Tensor:
        """Return a token, repeated, whose text is read as it: the first of a random order."""
        words = [token for token in target.encoder.plain_ids if token < target.network.vocabulary]
        for place in torch.randperm(len(words), generator=generator)[:_TRIES].tolist():
            suffix = [words[place]] * self.length
            if _survives(target, goal, suffix):
                return torch.tensor(suffix)
        raise Unmet(f"of {_TRIES} tokens none, repeated, is read back as it was written")

    def _gradient(
        self, target: Target, goals: Sequence[_Goal], free: Sequence[int], suffix: Tensor
    ) -> Tensor:
        """Return the slope of the loss for every token in every place of the suffix, [n, V]."""
        table = target.network.model.get_input_embeddings().get_parameter("weight").detach()
        vectors = table[suffix.to(table.device)].float().requires_grad_(True)
        records = [answered(goal.place.filled(free), goal.answer, goal.record.id) for goal in goals]
        descend(target, records, free, vectors, steps=1, move=lambda: None)
        assert vectors.grad is not None
        return (vectors.grad @ table.float().T).cpu()


def behind(target: Target, record: Record, suffix: Sequence[int]) -> Question:
    """Return the question with the text of a suffix behind it, as a user would type it."""
    typed = record.question + target.encoder.written(suffix)
    return target.worded(record, (Message("user", typed),), variant="")


def survives(target: Target, record: Record, place: Slot, suffix: Sequence[int]) -> bool:
    """Tell whether the text of a suffix, behind a question, is read as the suffix's own tokens."""
    return behind(target, record, suffix).prompt == place.filled(suffix)


def _survives(target: Target, goal: _Goal, suffix: Sequence[int]) -> bool:
    return survives(target, goal.record, goal.place, suffix)


@torch.no_grad()
def losses(target: Target, goals: Sequence[_Goal], candidates: Tensor) -> Tensor:
    """Return the summed NLL of the goals' answers per token behind each candidate, [C, n] -> [C].

    Only what follows the cached beginning is computed.
    """
    network = target.network
    total = torch.zeros(len(candidates))
    scored = sum(len(goal.answer) for goal in goals)
    for goal in goals:
        rest = torch.tensor((*goal.place.after, *goal.answer)).repeat(len(candidates), 1)
        ids = torch.cat([candidates, rest], dim=1).to(network.device)
        first = ids.shape[1] - len(goal.answer) - 1
        columns = torch.arange(first, ids.shape[1] - 1, device=network.device)
        size = max(1, target.tokens_per_pass // ids.shape[1])
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            rows = torch.arange(len(part), device=network.device).repeat_interleave(len(columns))
            hidden = network.hidden_after(part, rows, columns.repeat(len(part)), begun=goal.begun)
            log_probs = torch.log_softmax(network.logits(hidden), dim=-1)
            targets = part[:, first + 1 :].reshape(-1, 1)
            own = log_probs.gather(-1, targets).view(len(part), -1).sum(1)
            total[start : start + size] -= own.float().cpu()
            target.meter.tokens += part.numel()
    return total / scored
