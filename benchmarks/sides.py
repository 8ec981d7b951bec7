"""The two sides of a training row: what is trained, and one optimiser step of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from expunge.data.tokenization import Encoded
from expunge.methods.base import Distribution, Method, Shape, Stream, Term, Trains
from expunge.methods.graddiff import GradDiff
from expunge.methods.hidden_states import random_direction
from expunge.methods.npo import NPO
from expunge.methods.rmu import RMU
from expunge.methods.simnpo import SimNPO
from expunge.methods.undial import UNDIAL
from expunge.models.cpu_kernels import PlainLinear
from expunge.models.lora import LoraShape
from expunge.models.transformer import Network
from expunge.optim.optimizers.adamw import AdamW
from expunge.planning.cost import PROCESS_GIB, Load, layout_of
from expunge.planning.memory import Size, measure, memory
from expunge.planning.term_costs import Depth, once_needs, step_needs
from expunge.training.activation_cache import LowerStates, compute_lower
from expunge.training.activation_checkpointing import selectively_recomputed
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import References, precompute
from expunge.training.sampler import BatchIndices, Sampler, Streams
from expunge.training.step_gradient import StepGradient
from expunge.training.train_loop import Multipliers, coefficients
from expunge.training.trainable_weights import TrainableWeights, adapter, chosen, everything
from peer import Padded, Peer, collated
from timing import Clock

SHAPE = Shape(layers=30, width=576, vocabulary=49152)
PAD = 2
TOKENS_PER_PASS = 4096
CLIP = 1.0
METHODS: dict[str, Method] = {
    "npo": NPO(),
    "graddiff": GradDiff(),
    "graddiff+kl": GradDiff(retain="kl"),
    "simnpo": SimNPO(),
    "undial": UNDIAL(),
    "rmu": RMU(),
}
WITHOUT_REFERENCE = ("graddiff", "simnpo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """Which weights a row trains, and at what learning rate."""

    lr: float
    lora: LoraShape | None = None
    trains: Trains | None = None


_RMU = METHODS["rmu"].trains(SHAPE)
MODES = {
    "all": Mode(lr=1e-5),
    "lora": Mode(lr=1e-4, lora=LoraShape(rank=16, alpha=32.0)),
    "third": Mode(lr=1e-5, trains=Trains(modules=(), first_layer=20, last_layer=29)),
    "three": Mode(lr=1e-5, trains=_RMU),
}


@dataclass(kw_only=True)
class Work:
    """What a row asks of both sides."""

    method: str
    mode: Mode
    streams: Streams
    terms: tuple[Term, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.terms = METHODS[self.method].terms(SHAPE)

    @property
    def has_reference(self) -> bool:
        """Whether the peer needs the second model."""
        return self.method not in WITHOUT_REFERENCE

    def drawn(self, draw: BatchIndices) -> list[Encoded]:
        """Return the records that a step reads."""
        used = {stream for term in self.terms for stream in term.streams}
        return [record for stream in sorted(used) for record in self.streams.drawn(stream, draw)]


class Ours(Work):
    """One optimiser step of `expunge`, as its training loop takes it."""

    def __init__(
        self,
        network: Network,
        method: str,
        mode: Mode,
        streams: Streams,
        draws: Sequence[BatchIndices],
        clock: Clock,
    ) -> None:
        super().__init__(method=method, mode=mode, streams=streams)
        self.network = network
        self.weights = _weights(network, mode)
        self.optimiser = AdamW().make(self.weights.masters, mode.lr, 0.0)
        pools = {
            stream: list(dict.fromkeys(r for d in draws for r in streams.drawn(stream, d)))
            for stream in (Stream.FORGET, Stream.RETAIN)
        }
        self.lower_seconds = 0.0
        self.lower: LowerStates | None = None
        if mode.trains is not None:
            self._scratch = TemporaryDirectory()
            below, trains = [record for pool in pools.values() for record in pool], mode.trains
            self._store(below, trains)  # once untimed: a process that has just begun is slow
            spent = clock.seconds(lambda: self._store(below, trains), [])
            self.lower_seconds = spent / len(below)
        self.references: References
        self._refer(pools)
        self.reference_seconds = {
            stream: clock.seconds(lambda s=stream: self._refer({s: pools[s]}), [])
            / len(pools[stream])
            for stream in pools
        }
        self._refer(pools)

    def once_per_step(self, order: Sampler) -> float:
        """Return the time of the references of a whole run, shared out among its steps."""
        recipe = METHODS[self.method].recipe
        steps = recipe.epochs * order.steps_per_epoch
        needed = {stream for term in self.terms for stream in _referred(term)}
        visited = {
            Stream.FORGET: order.forget,
            Stream.RETAIN: min(order.retain, steps * order.retain_batch),
        }
        return sum(self.reference_seconds[s] * visited[s] for s in needed) / steps

    def planned_gib(self, order: Sampler) -> float:
        """Return the peak memory of a step, as it is planned."""
        model, count = self.network.model, self.weights.count
        found = planned_peak(
            self.terms, self.streams, order, measure(model.config), self.mode, count, model.dtype
        )
        return found + PROCESS_GIB

    def step(self, draw: BatchIndices) -> float:
        """Take a step; return the loss before it."""
        observer = TermEvaluator(
            network=self.network,
            terms=self.terms,
            streams=self.streams,
            references=self.references,
            pad_id=PAD,
            lower=self.lower,
        )
        return our_step(observer, self.weights, self.optimiser, draw)

    def _refer(self, pools: dict[Stream, list[Encoded]]) -> float:
        terms = [term for term in self.terms if set(_referred(term)) <= set(pools)]
        self.references = precompute(
            self.network,
            terms,
            {Stream.FORGET: [], Stream.RETAIN: [], **pools},
            pad_id=PAD,
            tokens_per_pass=TOKENS_PER_PASS,
            lower=self.lower,
        )
        return 0.0

    def _store(self, records: Sequence[Encoded], trains: Trains) -> float:
        self.lower = compute_lower(
            self.network,
            records,
            layer=trains.first_layer,
            file=Path(self._scratch.name) / "lower.bin",
            pad_id=PAD,
            tokens_per_pass=TOKENS_PER_PASS,
        )
        return 0.0


def our_step(
    observer: TermEvaluator,
    weights: TrainableWeights,
    optimiser: torch.optim.Optimizer,
    draw: BatchIndices,
) -> float:
    """Take a step as the training loop does; return the loss before it."""
    coefs = coefficients(observer.terms, Multipliers.of(observer.terms), 0.0)
    pull = StepGradient(observer, weights, draw, coefs=coefs, tokens_per_pass=TOKENS_PER_PASS)
    with selectively_recomputed(observer.network):
        gradient = pull()
    for name, value in gradient.items():
        weights.masters[name].grad = value
    torch.nn.utils.clip_grad_norm_(list(weights.masters.values()), CLIP)
    optimiser.step()
    weights.publish()
    optimiser.zero_grad(set_to_none=True)
    return sum(coefs[name] * value for name, value in pull.values.items())


def planned_peak(
    terms: tuple[Term, ...],
    data: Streams,
    order: Sampler,
    size: Size,
    mode: Mode,
    trained: int,
    dtype: torch.dtype,
) -> float:
    """Return the peak memory of our step as it is planned, GiB, without a runtime."""
    trains = mode.trains
    depth = Depth.of(size.layers, 0 if trains is None else trains.first_layer, trains)
    load = Load(
        steps=1,
        step=step_needs(terms, data, order, steps=1, depth=depth, tokens_per_pass=TOKENS_PER_PASS),
        once=once_needs(terms, data, order, steps=1, depth=depth),
        trained=trained,
        trained_body=trained,
        adapter=mode.lora is not None,
        head_trains=mode.lora is None and trains is None,
        gradient_tokens=0,
        audit_tokens=0,
        audit_answers=0,
    )
    layout = layout_of(load, dtype)
    return memory(size, layout).total - layout.overhead


class Theirs:
    """One optimiser step of the peer, as a Trainer takes it: clipping and fused AdamW."""

    def __init__(
        self,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        work: Work,
        start: Mapping[str, Tensor],
    ) -> None:
        self.model: nn.Module = model
        self.work = work
        method, mode = work.method, work.mode
        if mode.lora is not None:
            config = LoraConfig(
                r=mode.lora.rank, lora_alpha=int(mode.lora.alpha), target_modules="all-linear"
            )
            self.model = get_peft_model(model, config)
            self._begin(start)
        else:
            _weights(Network(model), mode).release()
        common(model)
        if reference is not None:
            common(reference)
        peer = Peer(self.model, reference if work.has_reference else None)
        self._loss = {
            "npo": peer.npo,
            "graddiff": peer.graddiff,
            "graddiff+kl": peer.graddiff_kl,
            "simnpo": peer.simnpo,
            "undial": peer.undial,
            "rmu": peer.rmu(7, 6.5 * random_direction(576, 0).to(model.device), 1200.0),
        }[method]
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._trained, lr=mode.lr, weight_decay=0.0, fused=True)

    def step(self, draw: BatchIndices) -> float:
        """Take a step; return the loss before it."""
        loss = self._loss(self._batch(Stream.FORGET, draw), self._batch(Stream.RETAIN, draw))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.no_grad()
    def _begin(self, start: Mapping[str, Tensor]) -> None:
        own: dict[str, Tensor] = dict(self.model.named_parameters())
        for name, value in start.items():
            own[f"base_model.model.{name}.default.weight"].copy_(value)

    def _batch(self, stream: Stream, draw: BatchIndices) -> Padded:
        records = self.work.streams.drawn(stream, draw)
        return collated(records, PAD, self._trained[0].device)


def common(model: PreTrainedModel) -> PreTrainedModel:
    """Take out of a model what expunge makes faster in it."""
    model.set_attn_implementation("sdpa")
    for module in model.modules():
        if isinstance(module, PlainLinear):
            module.__class__ = nn.Linear
    return model


def initial(network: Network, mode: Mode) -> dict[str, Tensor]:
    """Return the values that our adapter starts from, if there is one."""
    return {} if mode.lora is None else dict(_weights(network, mode).masters)


def _referred(term: Term) -> Sequence[Stream]:
    """Return the streams on which a term wants values of the original."""
    if isinstance(term, Distribution):
        return term.references
    return term.streams if term.needs_reference else ()


def _weights(network: Network, mode: Mode) -> TrainableWeights:
    if mode.lora is not None:
        return adapter(network, mode.lora, seed=0)
    return everything(network) if mode.trains is None else chosen(network, mode.trains)
