"""Linear probes: do the states tell the true answer from a false one?

    ridge regression of +1 (true) and -1 (false) on the state after a block at the answer's last
    token, fitted on one half of the facts, tested on the other
    value = clip(hit - (control - 1/2), 0, 1)

Protocol: each fact with its true answer and with one false answer (a wrong answer that comes with
the record, else its key answer replaced by that of another fact, else another fact's answer). A hit
is a true answer that scores above its false one. The control task has the labels of all pairs,
fitted and tested, drawn at random (arXiv:1909.03368; mean of 20 draws): what a probe scores there
above chance it owes to itself, and is subtracted. Compared with the original under the same probes.
Budget: two passes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.internals.logit_lens import depths
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.context import AttackMeta
from expunge.metrics.key_facts import normalise
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Site

CONTROLS = 20
"""Draws of the control task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """One probe a depth."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="inside",
        access="T3",
        learns=True,
        union=False,
        own_scale=True,
        needs="four facts; two blocks",
    )

    shares: tuple[float, ...] = (0.4, 0.6, 0.8)
    penalty: float = 1.0
    """Ridge penalty, as a share of the mean squared size of the states."""

    @property
    def name(self) -> str:
        """Return `probe`."""
        return "probe"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fit on the used facts, test on the others."""
        learnt, asked = (pairs(records, seed=target.seed) for records in (used, tested))
        layers = depths(target.network, self.shares)
        if len(learnt) < 2 or not asked or not layers:
            raise Unmet("too few facts to fit a probe on some and test it on others")
        fitted = self._states(target, [r for pair in learnt for r in pair], layers)
        tests = self._states(target, [r for pair in asked for r in pair], layers)
        found: list[Attempt] = []
        for layer in layers:
            hits = self._hits(fitted[layer], tests[layer], torch.ones(len(learnt)))
            control = self._control(fitted[layer], tests[layer], seed=target.seed)
            for (record, _), hit in zip(asked, hits.tolist(), strict=True):
                value = min(1.0, max(0.0, hit - (control - 0.5)))
                found.append(Attempt(record=record.id, variant=f"block {layer}", value=value))
        return found

    def _control(self, fitted: Tensor, tests: Tensor, *, seed: int) -> float:
        """Return the share of hits where neither fitted nor tested labels mean anything."""
        draws = random.Random(f"{seed} control task")

        def labels(pairs: int) -> Tensor:
            return torch.tensor([draws.choice((1.0, -1.0)) for _ in range(pairs)])

        shares: list[float] = []
        for _ in range(CONTROLS):
            hits = self._hits(fitted, tests, labels(len(fitted) // 2))
            wanted = labels(len(tests) // 2) > 0
            shares.append(float((hits.bool() == wanted).float().mean()))
        return fmean(shares)

    def _hits(self, fitted: Tensor, tests: Tensor, signs: Tensor) -> Tensor:
        """Fit on [2n, d] states in pairs (true, false), and test on pairs, [2m, d] -> [m]."""
        labels = torch.stack([signs, -signs], dim=1).view(-1).to(fitted)
        mean = fitted.mean(0)
        weights = ridge(fitted - mean, labels, penalty=self.penalty)
        scores = ((tests - mean) @ weights).view(-1, 2)
        return (scores[:, 0] > scores[:, 1]).float()

    @torch.no_grad()
    def _states(
        self, target: Target, records: Sequence[Record], layers: Sequence[int]
    ) -> dict[int, Tensor]:
        """Return the states at the last content token of each record, [n, d] by block."""
        network = target.network
        encoded = [target.encoder.encode(record) for record in records]
        target.meter.tokens += sum(len(each.ids) for each in encoded)
        width = network.model.config.get_text_config().hidden_size
        found = {layer: torch.empty(len(encoded), width) for layer in layers}
        sites = [Site(layer) for layer in layers]
        for group in by_length([len(r.ids) for r in encoded], tokens=target.tokens_per_pass):
            chosen = [encoded[index] for index in group]
            batch = collate(chosen, pad_id=target.encoder.pad_id, device=network.device)
            seen = network.observe(batch.ids, sites=sites, final=False)
            for layer in layers:
                for row, (index, each) in enumerate(zip(group, chosen, strict=True)):
                    found[layer][index] = seen.states[Site(layer)][row, _last(each)].float().cpu()
        return found


def _last(encoded: Encoded) -> int:
    return len(encoded.ids) - 1 - int(encoded.ends)


def ridge(states: Tensor, labels: Tensor, *, penalty: float) -> Tensor:
    """Return argmin_w |X w - y|^2 + n p s |w|^2, s the mean squared entry of X; [n, d] -> [d].

    Solved in the space of the records, which are fewer than the dimensions.
    """
    size = penalty * float(states.square().sum(1).mean())
    gram = states @ states.T + size * torch.eye(len(states)).to(states)
    return states.T @ torch.linalg.solve(gram, labels)


def pairs(records: Sequence[Record], *, seed: int) -> list[tuple[Record, Record]]:
    """Return each record with a copy that answers falsely; records without such a copy drop out."""
    found: list[tuple[Record, Record]] = []
    for record in records:
        text = _false_answer(record, records, seed=seed)
        if text is not None:
            found.append((record, replace(record, completion=text)))
    return found


def _false_answer(record: Record, others: Sequence[Record], *, seed: int) -> str | None:
    key = next((key for key in record.key_answers if key and key in record.completion), None)
    if key is None or record.wrong:
        pool = record.wrong or [each.completion for each in others]
        key, known = None, {normalise(record.completion)}
    else:
        pool = [each.key_answers[0] for each in others if each.key_answers]
        known = {normalise(each) for each in record.key_answers}
    wrong = sorted({text for text in pool if normalise(text) not in known})
    if not wrong:
        return None
    drawn = random.Random(f"{seed} probe {record.id}").choice(wrong)
    return drawn if key is None else record.completion.replace(key, drawn)
