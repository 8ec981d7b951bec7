"""Fine-tuning as an attacker does it: a few steps on some records, tested on the way, then undone.

    L = -(1/N) sum log p(y_t)    over the N scored tokens of a batch; AdamW, constant rate, no decay

LoRA may leave the lower blocks frozen; what they say is then computed once for a whole sweep of
learning rates.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import torch

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.models.batching import by_length
from expunge.models.lora import LoraShape, detach
from expunge.models.transformer import Network
from expunge.training.activation_cache import LowerStates, compute_lower
from expunge.training.forward import chunked_logp
from expunge.training.sampler import Sampler
from expunge.training.trainable_weights import TrainableWeights, adapter, everything


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Settings that an attacker tries, each from the same start."""

    lora_rates: tuple[float, ...] = (2e-4, 1e-3)
    """Learning rates of LoRA on every linear layer."""
    upper_rates: tuple[float, ...] = ()
    """Learning rates of LoRA on the upper half of the blocks, over cached lower activations."""
    full_rates: tuple[float, ...] = ()
    """Learning rates of all weights."""
    rank: int = 16
    batch: int = 8
    looks: tuple[int, ...] = (0, 8, 32)
    """Steps after which the facts are asked for; the last ends the training."""
    seeds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Setting:
    label: str
    rate: float
    shape: LoraShape | None
    seed: int


def tuned_attempts(
    target: Target, records: Sequence[Encoded], tested: Sequence[Record], sweep: Sweep
) -> list[Attempt]:
    """Fine-tune on `records` with every setting, and ask for `tested` plainly at every look.

    The variant names setting and step: `lora 0.001 step 32`. The untouched model is asked once,
    whatever the number of settings.
    """
    found: list[Attempt] = []
    lower: LowerStates | None = None
    for setting in _settings(target, sweep):
        if setting.shape is not None and setting.shape.first_layer and lower is None:
            lower = _lower(target, records, setting.shape.first_layer)
        known = lower if setting.shape is not None and setting.shape.first_layer else None
        with _training(target, records, setting, sweep.batch, known) as train_to:
            for look in sorted(sweep.looks):
                if look == 0 and found:
                    continue
                train_to(look)
                label = "untouched" if look == 0 else f"{setting.label} step {look}"
                found += target.asks(tested, label)
    return found


def _settings(target: Target, sweep: Sweep) -> list[_Setting]:
    blocks = len(target.network.layers)
    kinds: list[tuple[str, tuple[float, ...], LoraShape | None]] = [
        ("lora", sweep.lora_rates, LoraShape(rank=sweep.rank, alpha=2.0 * sweep.rank)),
        (
            "upper lora",
            sweep.upper_rates,
            LoraShape(rank=sweep.rank, alpha=2.0 * sweep.rank, first_layer=blocks // 2),
        ),
        ("full", sweep.full_rates, None),
    ]
    return [
        _Setting(
            label=f"{kind} {rate:g}" + (f" seed {seed}" if seed else ""),
            rate=rate,
            shape=shape,
            seed=target.seed + seed,
        )
        for kind, rates, shape in kinds
        for rate in rates
        for seed in range(sweep.seeds)
    ]


def _lower(target: Target, records: Sequence[Encoded], layer: int) -> LowerStates:
    digest = sha256(repr([record.ids for record in records]).encode()).hexdigest()[:12]
    target.meter.tokens += sum(len(record.ids) for record in records)
    return compute_lower(
        target.network,
        records,
        layer=layer,
        file=target.scratch / f"lower-{layer}-{digest}.bin",
        pad_id=target.encoder.pad_id,
        tokens_per_pass=target.tokens_per_pass,
    )


@contextmanager
def _training(
    target: Target,
    records: Sequence[Encoded],
    setting: _Setting,
    batch: int,
    lower: LowerStates | None,
) -> Generator[Callable[[int], None]]:
    """Yield a function that trains up to a step; afterwards the model is as it was."""
    network = target.network
    kept = None
    if setting.shape is None:
        kept = {name: p.detach().clone() for name, p in network.model.named_parameters()}
        weights = everything(network, routers=True)
    else:
        weights = adapter(network, setting.shape, seed=setting.seed)
    optimiser = torch.optim.AdamW(
        weights.masters.values(), lr=setting.rate, weight_decay=0.0, fused=True
    )
    order = Sampler(
        forget=len(records), retain=0, forget_batch=batch, retain_batch=0, seed=setting.seed
    )
    done = 0

    def train_to(step: int) -> None:
        nonlocal done
        for index in range(done, step):
            chosen = [records[place] for place in order.draw(index).forget]
            _step(target, weights, optimiser, chosen, lower)
        done = max(done, step)

    try:
        yield train_to
    finally:
        _undo(network, weights, kept)


def _undo(
    network: Network, weights: TrainableWeights, kept: dict[str, torch.Tensor] | None
) -> None:
    weights.release()  # else the next training of these weights would hand its gradients to these
    network.model.zero_grad(set_to_none=True)
    if kept is None:
        detach(network.model)
    else:
        with torch.no_grad():
            for name, parameter in network.model.named_parameters():
                parameter.copy_(kept[name])
    network.model.requires_grad_(False)


def _step(
    target: Target,
    weights: TrainableWeights,
    optimiser: torch.optim.Optimizer,
    records: Sequence[Encoded],
    lower: LowerStates | None,
) -> None:
    network = target.network
    scored = sum(len(record.ids) - record.start for record in records)
    optimiser.zero_grad(set_to_none=True)
    for group in by_length([len(r.ids) for r in records], tokens=target.tokens_per_pass):
        chosen = [records[index] for index in group]
        batch = network.batch(chosen, pad_id=target.encoder.pad_id)
        below = None if lower is None else lower.states(chosen, batch)
        states = network.observe(batch.ids, below=below, layout=batch.layout).final
        assert states is not None
        hidden = states[batch.rows, batch.columns]
        (-chunked_logp(network, hidden, batch.targets).sum() / scored).backward()
    torch.nn.utils.clip_grad_norm_(weights.masters.values(), 1.0)
    optimiser.step()
    weights.publish()
    target.meter.steps += 1
    target.meter.tokens += sum(len(record.ids) for record in records)
