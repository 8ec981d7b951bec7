"""The peer: unlearning and its evaluation in the common style, to be measured against.

What most published code does, without its faults: a transformers model; batches padded to their
longest record; the forget and the retain batch in forward passes of their own; logits for every
position; a frozen second model for the reference; evaluation in the order of the data, one pass a
metric; `generate` one batch at a time. Losses are those of `expunge`, term by term, so that both
sides do the same work and must agree.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.data.tokenization import Encoded

IGNORED = -100
"""Label of tokens that are not scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Padded:
    """A batch as a data collator makes it: padded on the right, with mask and labels."""

    ids: Tensor
    mask: Tensor
    labels: Tensor


def collated(records: Sequence[Encoded], pad_id: int, device: torch.device) -> Padded:
    """Pad records to the longest of them."""
    longest = max(len(record.ids) for record in records)
    ids = torch.full((len(records), longest), pad_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, record in enumerate(records):
        tokens = torch.tensor(record.ids)
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, record.start : len(tokens)] = tokens[record.start :]
    return Padded(ids=ids.to(device), mask=mask.to(device), labels=labels.to(device))


def logits_of(model: nn.Module, batch: Padded) -> Tensor:
    """Return logits of all positions but the last, [B, L - 1, V] float32."""
    out = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return out.logits[:, :-1].float()


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of each label, [B, L - 1], zero where ignored."""
    shifted = labels[:, 1:]
    flat = functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        shifted.reshape(-1),
        ignore_index=IGNORED,
        reduction="none",
    )
    return flat.view(shifted.shape)


def scored(batch: Padded) -> Tensor:
    """Return which positions predict a scored token, [B, L - 1]."""
    return batch.labels[:, 1:] != IGNORED


def divergence(log_p: Tensor, log_q: Tensor, where: Tensor) -> Tensor:
    """Return the mean of KL(q || p) over some positions of [B, L - 1, V] log-probabilities."""
    each = functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    return each[where].mean()


class Peer:
    """The losses of the common loop.

    Args:
        model: What is trained; a `PeftModel` for LoRA.
        reference: The frozen second model; None for methods that have none.
    """

    def __init__(self, model: nn.Module, reference: PreTrainedModel | None) -> None:
        self.model = model
        self.reference = reference

    def npo(self, forget: Padded, retain: Padded) -> Tensor:
        """NPO with beta 0.1, and the retain NLL."""
        return self._npo(forget) + self._nll(retain)

    def graddiff(self, forget: Padded, retain: Padded) -> Tensor:
        """Gradient ascent and the retain NLL."""
        return -self._nll(forget) + self._nll(retain)

    def graddiff_kl(self, forget: Padded, retain: Padded) -> Tensor:
        """Gradient ascent and the retain KL to the reference."""
        loss = -self._nll(forget)
        log_p = torch.log_softmax(logits_of(self.model, retain), -1)
        return loss + divergence(log_p, self._reference_log_probs(retain), scored(retain))

    def simnpo(self, forget: Padded, retain: Padded) -> Tensor:
        """SimNPO with beta 4.5 and coefficient 0.125, and the retain NLL."""
        nll = token_nll(logits_of(self.model, forget), forget.labels).sum(-1)
        mean = nll / scored(forget).sum(-1)
        forgotten = -2 / 4.5 * functional.logsigmoid(4.5 * mean).mean()
        return 0.125 * forgotten + self._nll(retain)

    def undial(self, forget: Padded, _retain: Padded) -> Tensor:
        """UNDIAL with beta 10: the reference's logit of the answer lowered."""
        with torch.no_grad():
            logits = logits_of(self._frozen(), forget)
            labels = forget.labels[:, 1:].clamp(min=0)
            one_hot = functional.one_hot(labels, logits.shape[-1])
            log_q = torch.log_softmax(logits - 10.0 * one_hot, -1)
        log_p = torch.log_softmax(logits_of(self.model, forget), -1)
        return divergence(log_p, log_q, scored(forget))

    def rmu(self, layer: int, target: Tensor, alpha: float) -> Callable[[Padded, Padded], Tensor]:
        """RMU after a block: a hook keeps its output, the forward passes run to the end."""

        def loss(forget: Padded, retain: Padded) -> Tensor:
            moved = self._states(self.model, forget, layer)
            pinned = self._states(self.model, retain, layer)
            with torch.no_grad():
                wanted = self._states(self._frozen(), retain, layer)
            away = (moved - target).square().mean(-1)[scored(forget)].mean()
            kept = (pinned - wanted).square().mean(-1)[scored(retain)].mean()
            return away + alpha * kept

        return loss

    def _npo(self, forget: Padded) -> Tensor:
        nll = token_nll(logits_of(self.model, forget), forget.labels).sum(-1)
        with torch.no_grad():
            before = token_nll(logits_of(self._frozen(), forget), forget.labels).sum(-1)
        return -2 / 0.1 * functional.logsigmoid(0.1 * (nll - before)).mean()

    def _nll(self, batch: Padded) -> Tensor:
        return token_nll(logits_of(self.model, batch), batch.labels).sum() / scored(batch).sum()

    def _reference_log_probs(self, batch: Padded) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(logits_of(self._frozen(), batch), -1)

    def _frozen(self) -> PreTrainedModel:
        assert self.reference is not None, "this method needs the second model"
        return self.reference

    def _states(self, model: nn.Module, batch: Padded, layer: int) -> Tensor:
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            kept.append(output)

        handle = model.get_submodule(f"model.layers.{layer}").register_forward_hook(keep)
        try:
            model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        finally:
            handle.remove()
        return kept[0][:, :-1]


@torch.no_grad()
def metric_passes(
    model: PreTrainedModel, records: Sequence[Encoded], *, pad_id: int, batch: int
) -> list[list[float]]:
    """Evaluate seven likelihood metrics, each with a pass of its own over the records.

    Mean probability, exact memorisation, extraction strength, loss, zlib-free loss sum, Min-K and
    Min-K++ at 20 %.
    """
    return [
        [value for part in _batches(model, records, pad_id, batch) for value in metric(*part)]
        for metric in (_probability, _memorised, _strength, _loss, _total, _min_k, _min_k_plus)
    ]


def _batches(
    model: PreTrainedModel, records: Sequence[Encoded], pad_id: int, batch: int
) -> Iterator[tuple[Tensor, Padded]]:
    for start in range(0, len(records), batch):
        padded = collated(records[start : start + batch], pad_id, model.device)
        yield logits_of(model, padded), padded


def _each(logits: Tensor, batch: Padded) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scored logits [T, V] and labels [T] of each record."""
    for row, where, labels in zip(logits, scored(batch), batch.labels[:, 1:], strict=True):
        yield row[where], labels[where]


def _loss(logits: Tensor, batch: Padded) -> list[float]:
    nll = token_nll(logits, batch.labels).sum(-1)
    return (nll / scored(batch).sum(-1)).tolist()


def _total(logits: Tensor, batch: Padded) -> list[float]:
    return token_nll(logits, batch.labels).sum(-1).tolist()


def _probability(logits: Tensor, batch: Padded) -> list[float]:
    nll = token_nll(logits, batch.labels).sum(-1)
    return (-nll / scored(batch).sum(-1)).exp().tolist()


def _memorised(logits: Tensor, batch: Padded) -> list[float]:
    hits = (rows.argmax(-1) == labels for rows, labels in _each(logits, batch))
    return [float(hit.float().mean()) for hit in hits]


def _strength(logits: Tensor, batch: Padded) -> list[float]:
    """The longest run of hits that ends the answer, as a share of it."""
    values: list[float] = []
    for rows, labels in _each(logits, batch):
        misses = (rows.argmax(-1) != labels).nonzero()
        first = int(misses[-1]) + 1 if len(misses) else 0
        values.append(1 - first / len(labels))
    return values


def _min_k(logits: Tensor, batch: Padded) -> list[float]:
    values: list[float] = []
    for rows, labels in _each(logits, batch):
        logp = torch.log_softmax(rows, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        lowest = logp.sort().values[: max(1, int(0.2 * len(logp)))]
        values.append(float(lowest.mean()))
    return values


def _min_k_plus(logits: Tensor, batch: Padded) -> list[float]:
    values: list[float] = []
    for rows, labels in _each(logits, batch):
        log_probs = torch.log_softmax(rows, -1)
        probs = log_probs.exp()
        mean = (probs * log_probs).sum(-1)
        deviation = ((probs * log_probs.square()).sum(-1) - mean.square()).clamp(min=1e-6).sqrt()
        logp = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        lowest = ((logp - mean) / deviation).sort().values[: max(1, int(0.2 * len(logp)))]
        values.append(float(lowest.mean()))
    return values


@torch.no_grad()
def generated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    batch: int,
    max_new_tokens: int,
) -> list[tuple[int, ...]]:
    """Answer greedily with `generate`, in the order of the data, padded on the left."""
    answers: list[tuple[int, ...]] = []
    end = tokenizer.eos_token_id
    for start in range(0, len(prompts), batch):
        group = prompts[start : start + batch]
        longest = max(map(len, group))
        ids = torch.full((len(group), longest), end)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(group):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=end,
            eos_token_id=end,
        )
        for tokens in out[:, longest:].tolist():
            stop = tokens.index(end) if end in tokens else len(tokens)
            answers.append(tuple(tokens[:stop]))
    return answers
