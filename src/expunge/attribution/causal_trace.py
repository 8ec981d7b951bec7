"""Causal tracing and patching: which part of the network carries a fact (arXiv:2202.05262).

    clean    the record as it is                      log p_c   mean over the fact's tokens, nats
    noised   subject embeddings + 3 sd(E) N(0, 1)     log p_n
    traced(m)  = (log p(noised, output of m clean) - log p_n) / (log p_c - log p_n)
    patched(m) = (log p_c - log p(clean, output of m noised)) / (log p_c - log p_n)

m is the attention or the MLP of one block, [B, L, d] at all positions; E are the embeddings of the
subject's tokens, sd over all their numbers. traced: 1 = m alone brings the fact back; patched: 1 =
without m's clean output the fact is gone. Means over records are taken before the division.

Differs from the paper: one module at all positions instead of ten layers at one position, and
log-probabilities instead of probabilities, which are 0 or 1 for facts known by heart.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.attribution.parts import ModelPart, part_modules
from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.models.architecture import hooked
from expunge.models.batching import Batch, by_length, collate
from expunge.models.transformer import CachedStates, Network, Site
from expunge.training.forward import chunked_logp

NOISE = 3.0
"""Standard deviations of the subject's embeddings."""
TOKENS = 1024
"""Padded tokens whose outputs of all parts exist at the same time."""


class TracedRecord(NamedTuple):
    """A record whose fact is scored, and the tokens that name its subject."""

    encoded: Encoded
    subject: range


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceEffects:
    """Effect of each part, 1 = the whole effect of the noise."""

    traced: Mapping[ModelPart, float]
    patched: Mapping[ModelPart, float]
    clean: float
    """Mean log-probability of the facts' tokens, nats."""
    noised: float
    """The same under noise."""


def traced_record(encoder: Encoder, record: Record) -> TracedRecord | None:
    """Find the subject in a question; a question that does not name it is noised as a whole.

    Returns:
        None for a passage of plain text: it has no question.
    """
    focus = encoder.focused(record).focus
    if focus is None:
        return None
    named = record.subject is not None and record.subject in record.question
    count = encoder.width(record.subject if named and record.subject else record.question, False)
    return TracedRecord(encoder.encode_fact(record), range(max(0, focus + 1 - count), focus + 1))


@torch.no_grad()
def trace_effects(
    network: Network,
    records: Sequence[TracedRecord],
    *,
    pad_id: int,
    seed: int,
    done: Callable[[int], None],
) -> TraceEffects:
    """Return the effect of every part over some records.

    Args:
        network: The model.
        records: At least one.
        pad_id: Any token id.
        seed: Of the noise.
        done: Called with the number of records that were finished.
    """
    generator = torch.Generator().manual_seed(seed)
    modules = part_modules(network)
    sums = {part: torch.zeros(2, dtype=torch.float64) for part in modules}
    levels = torch.zeros(2, dtype=torch.float64)
    for group in by_length([len(each.encoded.ids) for each in records], tokens=TOKENS):
        chosen = [records[index] for index in group]
        run = _Runs(network, chosen, pad_id, generator)
        levels += torch.tensor([run.clean.level, run.noised.level], dtype=torch.float64)
        for part in modules:
            sums[part] += torch.tensor(run.swapped(part), dtype=torch.float64)
        done(len(group))
    clean, noised = levels.tolist()
    gap = clean - noised
    share = 1 / gap if gap > 0 else 0.0
    return TraceEffects(
        traced={part: (float(both[0]) - noised) * share for part, both in sums.items()},
        patched={part: (clean - float(both[1])) * share for part, both in sums.items()},
        clean=clean / len(records),
        noised=noised / len(records),
    )


class _Pass(NamedTuple):
    """One forward pass: outputs of parts, states after blocks, sum of the records' means."""

    outputs: Mapping[ModelPart, Tensor]
    states: Mapping[Site, Tensor]
    level: float


class _Runs:
    """The clean and the noised run of a batch, and runs with one output of the other."""

    def __init__(
        self,
        network: Network,
        records: Sequence[TracedRecord],
        pad_id: int,
        generator: torch.Generator,
    ) -> None:
        encoded = [each.encoded for each in records]
        self._network, self._modules = network, part_modules(network)
        self._batch: Batch = collate(encoded, pad_id=pad_id, device=network.device)
        self._counts = [len(each.ids) - each.start for each in encoded]
        self._noise = self._drawn(records, generator)  # [B, L, d]
        self.clean = self._pass()
        with self._noisy():
            self.noised = self._pass()

    def _embedding(self) -> torch.nn.Module:
        return self._network.model.get_input_embeddings()

    def _drawn(self, records: Sequence[TracedRecord], generator: torch.Generator) -> Tensor:
        embedded = self._embedding()(self._batch.ids)
        where = torch.zeros(self._batch.ids.shape, dtype=torch.bool)
        for row, each in enumerate(records):
            where[row, each.subject.start : each.subject.stop] = True
        where = where.to(embedded.device)
        noise = torch.randn(embedded.shape, generator=generator).to(embedded)
        return noise * NOISE * embedded[where].std() * where.unsqueeze(-1)

    @contextmanager
    def _noisy(self) -> Generator[None]:
        with hooked(self._embedding(), lambda output: output + self._noise):
            yield

    def _pass(self) -> _Pass:
        outputs: dict[ModelPart, Tensor] = {}
        sites = [Site(layer) for layer in range(len(self._network.layers))]
        with ExitStack() as stack:
            for part, module in self._modules.items():
                stack.enter_context(hooked(module, partial(_kept, outputs, part)))
            seen = self._network.observe(self._batch.ids, sites=sites)
        assert seen.final is not None
        hidden = seen.final[self._batch.rows, self._batch.columns]
        return _Pass(outputs, seen.states, self._level(hidden))

    def swapped(self, part: ModelPart) -> tuple[float, float]:
        """Return the level of the noised run with a clean output, and the other way round."""
        with self._noisy():
            restored = self._with(part, self.noised, self.clean.outputs[part])
        return restored, self._with(part, self.clean, self.noised.outputs[part])

    def _with(self, part: ModelPart, run: _Pass, output: Tensor) -> float:
        below = None
        if part.block:
            below = CachedStates(part.block, run.states[Site(part.block - 1)])
        batch = self._batch
        with hooked(self._modules[part], lambda _: output):
            hidden = self._network.hidden(batch.ids, batch.rows, batch.columns, below=below)
        return self._level(hidden)

    def _level(self, hidden: Tensor) -> float:
        logp = chunked_logp(self._network, hidden, self._batch.targets)
        return sum(float(part.mean()) for part in logp.split(self._counts))


def _kept(outputs: dict[ModelPart, Tensor], part: ModelPart, output: Tensor) -> None:
    outputs[part] = output
