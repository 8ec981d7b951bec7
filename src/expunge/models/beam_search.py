"""Near-copies: the likeliest continuations of a prompt that stay within a few edits of a text.

A beam search that keeps only what can still end within the edits: each beam carries the last row of
its Levenshtein table against the text. Found continuations are as long as the text and distinct, so
their probabilities add up to a lower bound of the chance that a sample begins with a near-copy.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from expunge.methods.guards.base import Ids
from expunge.models.batching import by_length
from expunge.models.generation import left_padded, next_logits, reordered
from expunge.models.guarded import AssistantLogits, begun_answers
from expunge.models.transformer import Network, new_cache


class Wanted(NamedTuple):
    """A text to look for."""

    prompt: Ids
    text: Ids
    """At least one token."""
    edits: int
    """Insertions, deletions and replacements of tokens up to which a continuation is a copy."""


class Copy(NamedTuple):
    """A continuation within the edits."""

    tokens: Ids
    logp: float
    """Its log-probability after the prompt, nats."""


@torch.no_grad()
def near_copies(
    network: Network,
    wanted: Sequence[Wanted],
    *,
    width: int,
    end_ids: Collection[int],
    tokens_per_pass: int,
) -> list[list[Copy]]:
    """Return the likeliest near-copies of each text that a beam search finds, best first.

    Args:
        network: The model, in evaluation mode; its guard, if any, is applied.
        wanted: The texts.
        width: Beams to a text, and so the most copies that are found.
        end_ids: Tokens that end an answer: no copy holds one.
        tokens_per_pass: Largest number of padded tokens in one batch, all beams counted.
    """
    found: list[list[Copy]] = [[] for _ in wanted]
    lengths = [(len(each.prompt) + len(each.text)) * width for each in wanted]
    longest = max((len(each.text) for each in wanted), default=0)
    with reordered(network, tokens=longest):
        for group in by_length(lengths, tokens=tokens_per_pass):
            copies = _search(network, [wanted[i] for i in group], width, end_ids, tokens_per_pass)
            for index, own in zip(group, copies, strict=True):
                found[index] = own
    return found


class _Beams(NamedTuple):
    """The beams of one text."""

    place: int
    """Index of the text in its batch."""
    wanted: Wanted
    written: tuple[Ids, ...] = ((),)
    logp: tuple[float, ...] = (0.0,)
    tables: np.ndarray = np.empty(0)
    """The last row of each beam's edit table, [b, T + 1]."""

    @classmethod
    def begin(cls, place: int, wanted: Wanted) -> "_Beams":
        return cls(place, wanted, tables=np.arange(len(wanted.text) + 1)[None])

    def grown(self, logp: Tensor, width: int) -> tuple["_Beams", list[int]]:
        """Return the best beams that are one token longer, and which beam each comes from.

        Args:
            logp: Log-probabilities of the next token of each beam, [b, V].
            width: Most beams to keep.
        """
        text, edits = self.wanted.text, self.wanted.edits
        step = len(self.written[0])
        parents, tokens = self._candidates(logp, step, width)
        tables = _row_below(self.tables[parents], tokens, np.array(text))  # [c, T + 1]
        # Fewest edits that the tokens still to come need, where the text is read up to each place.
        behind = np.abs(np.arange(len(text) + 1) - (step + 1))
        total = np.array(self.logp)[parents] + logp.cpu().numpy()[parents, tokens]
        viable = ((tables + behind).min(axis=1) <= edits) & np.isfinite(total)
        order = np.argsort(-total, kind="stable")
        best = [int(i) for i in order if viable[i]][:width]
        written = tuple(self.written[parents[i]] + (int(tokens[i]),) for i in best)
        kept = self._replace(
            written=written, logp=tuple(float(total[i]) for i in best), tables=tables[best]
        )
        return kept, [int(parents[i]) for i in best]

    def _candidates(self, logp: Tensor, step: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return parents and tokens, [c] each, among which the best beams are.

        All other tokens are less likely than `width` of these and need no fewer edits.
        """
        likely = logp.topk(min(width, logp.shape[-1])).indices.cpu().numpy()
        edits = self.wanted.edits
        near = self.wanted.text[max(0, step - edits) : step + edits + 1]
        own = [np.unique(np.concatenate([row, np.array(near, dtype=row.dtype)])) for row in likely]
        parents = np.repeat(np.arange(len(own)), [len(row) for row in own])
        return parents, np.concatenate(own)


def _row_below(rows: np.ndarray, tokens: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Return the next row of each Levenshtein table, given its next token; [c, T + 1]."""
    steps = np.arange(rows.shape[1])
    below = rows + 1
    below[:, 1:] = np.minimum(below[:, 1:], rows[:, :-1] + (tokens[:, None] != text[None]))
    # Skipping tokens of the text costs one each: the running minimum of what is left of a cell.
    return np.minimum.accumulate(below - steps, axis=1) + steps


def _search(
    network: Network,
    wanted: Sequence[Wanted],
    width: int,
    end_ids: Collection[int],
    tokens_per_pass: int,
) -> list[list[Copy]]:
    said = begun_answers(network, [each.prompt for each in wanted], None, tokens=tokens_per_pass)
    ids, mask, positions = left_padded([answer.read for answer in said], network.device)
    cache, aside = new_cache(network.model.config), AssistantLogits(network, said)
    banned = torch.tensor(sorted(end_ids), device=network.device, dtype=torch.long)
    alive = [_Beams.begin(place, each) for place, each in enumerate(wanted)]
    found: list[list[Copy]] = [[] for _ in wanted]
    while alive:
        logits = next_logits(network, ids, mask, positions, cache)  # [beams of all texts, V]
        aside.read(ids, mask, positions)
        rows = [tokens for beams in alive for tokens in beams.written]
        logp = aside.bent(logits, rows).float().log_softmax(-1)
        logp[:, banned] = -torch.inf
        sources: list[int] = []
        going: list[_Beams] = []
        first = 0
        for beams in alive:
            count = len(beams.written)
            grown, parents = beams.grown(logp[first : first + count], width)
            if not parents or len(grown.written[0]) == len(grown.wanted.text):
                found[beams.place] = [
                    Copy(tokens, value)
                    for tokens, value in zip(grown.written, grown.logp, strict=True)
                ]
            else:
                going.append(grown)
                sources += [first + parent for parent in parents]
            first += count
        alive = going
        # Row i of the next batch continues row index[i] of this one.
        index = torch.tensor(sources, device=network.device, dtype=torch.long)
        cache.batch_select_indices(index)
        aside.select(index)
        last = [tokens[-1] for beams in alive for tokens in beams.written]
        ids = torch.tensor(last, device=network.device, dtype=torch.long).unsqueeze(-1)
        mask = torch.cat([mask[index], mask.new_ones(len(index), 1)], dim=-1)
        positions = positions[index, -1:] + 1
    return found
