"""The bench: what the engine lends an edit, on a real model.

Every answer is computed from the weights as they are at that moment: the masters are copied into
the model before each forward pass.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from expunge.data.tokenization import Encoded
from expunge.errors import UsageError
from expunge.methods.base import MLP_OUT, Likelihood, Shape, Stream, Term, is_named
from expunge.methods.edits.base import (
    WEIGHED,
    Moments,
    Place,
    Reinforce,
    State,
    Steered,
    Visit,
    memorising_passes,
)
from expunge.methods.retain_losses import nll
from expunge.models.batching import Batch, by_length, collate
from expunge.models.lora import by_output, updates
from expunge.models.transformer import ActivationPatch, Network, Site
from expunge.training.early_stopping import EarlyStopping, ProbeReading, spread
from expunge.training.forward import TermEvaluator, chunked_logp
from expunge.training.reference_model import precompute
from expunge.training.reinforced_model import ReinforcedTraining, Tell, memorised
from expunge.training.sampler import BatchIndices, Streams
from expunge.training.step_gradient import StepGradient
from expunge.training.trainable_weights import TrainableWeights


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A training loop that an edit asks for."""

    terms: tuple[Term, ...]
    name: str
    epochs: int
    lr: float
    before: Callable[[], None] | None
    watched: bool


@dataclass(kw_only=True, slots=True)
class EditContext:
    """Implements `methods.edits.protocol.Bench`."""

    network: Network
    shape: Shape
    streams: Streams
    trained: TrainableWeights
    watch: EarlyStopping
    first: ProbeReading
    """The probes before anything changed."""
    pad_id: int
    tokens_per_pass: int
    seed: int
    tell: Tell
    trainer: Callable[[Training, Tell], None]
    """Runs a training loop over all weights."""
    base_weights: Callable[[], Mapping[str, Tensor]] | None = None
    """Loads the weights of the base model; None: it is not known."""
    tokens_seen: int = field(default=0)
    span: tuple[float, float] = (0.0, 1.0)
    """Where in the work the stage begins and ends."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Float32 masters by name, without gradient."""
        return {name: master.detach() for name, master in self.trained.masters.items()}

    def matrix(self, name: str) -> Tensor:
        """Return a view of a weight as [out, in]."""
        layer = self.network.model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, nn.Linear | Conv1D), f"{name} is no matrix of a linear layer"
        return by_output(layer, self.weights[name])

    def output(self, layer: int) -> Tensor:
        """Return a view of the matrix with which the MLP of a block writes, [d, k]."""
        weight = self._output_layer(layer).weight
        return self.matrix(next(n for n, p in self.trained.parameters.items() if p is weight))

    def size(self, stream: Stream) -> int:
        """Return the number of records of the forget or the retain set."""
        return len(self._records(stream))

    def scored(self, stream: Stream) -> int:
        """Return the number of their scored tokens."""
        return sum(len(record.ids) - record.start for record in self._records(stream))

    def gradient(self, stream: Stream, *, after: Reinforce | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL per scored token, float32 by name."""
        everyone = range(self.size(stream))
        if after is None:
            return self._pull(stream, everyone)
        with self._memorised(self._records(Stream.FORGET), after):
            for parameter in self.trained.parameters.values():
                parameter.requires_grad_(True)
            return self._pull(stream, everyone)

    def fisher(self, stream: Stream) -> dict[str, Tensor]:
        """Return the diagonal of the empirical Fisher information per scored token."""
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        chosen = spread(list(enumerate(self._records(stream))), WEIGHED)
        everyone = sum(len(record.ids) - record.start for _, record in chosen)
        for done, (index, record) in enumerate(chosen):
            self.progress(done / len(chosen), f"gradient {done + 1} of {len(chosen)}")
            own = len(record.ids) - record.start
            for name, slope in self._pull(stream, [index]).items():
                total[name].addcmul_(slope, slope, value=own * own / everyone)
        return total

    def displacement(self, part: Sequence[int], how: Reinforce) -> dict[str, Tensor]:
        """Return what memorising some forget records, given by index, adds to each weight."""
        records = self._records(Stream.FORGET)
        with self._memorised([records[index] for index in part], how):
            moved = updates(self.network.model)
        return {name: value for name, value in moved.items() if name in self.trained.masters}

    def keys(self, stream: Stream, layer: int, place: Place) -> Tensor:
        """Return inputs of the MLP's output matrix of a block, [n, k] float32."""
        return self._in_order(stream, layer, place, inputs=True)

    def key_moments(self, stream: Stream, layer: int, place: Place) -> Moments:
        """Return the moments of these inputs without keeping them."""
        width = self.output(layer).shape[1]
        device = self.network.device
        total = torch.zeros(width, dtype=torch.float64, device=device)
        second = torch.zeros(width, width, dtype=torch.float64, device=device)
        count = 0
        for _, rows in self._read(stream, layer, place, inputs=True):
            wide = rows.double()
            total += wide.sum(0)
            second += wide.T @ wide
            count += len(wide)
        return Moments(total / count, second / count, count)

    def states(self, stream: Stream, layer: int, place: Place) -> Tensor:
        """Return states after a block, [n, d] float32; of a variant, those of all its records."""
        return self._in_order(stream, layer, place, inputs=False)

    def steer(self, stream: Stream, layer: int, change: Tensor) -> Steered:
        """Add `change`, [n, d], to the states after a block at each forget record's subject."""
        records = [choices[0] for choices in self.streams.variants[stream]]
        forget = self.streams.forget
        losses, gradient = change.new_zeros(len(records)), torch.zeros_like(change)
        for group in self._groups(records):
            batch = self._batch([records[index] for index in group])
            own = change[group].detach().requires_grad_(True)
            where = torch.tensor([_focus(forget[index]) for index in group], device=own.device)
            rows = torch.arange(len(group), device=own.device)
            dtype = self.network.model.dtype
            pushed = torch.zeros(*batch.ids.shape, own.shape[-1], dtype=dtype, device=own.device)
            push = ActivationPatch(layer, pushed.index_put((rows, where), own.to(dtype)))
            final = self.network.observe(batch.ids, push=push).final
            assert final is not None, "the whole trunk ran"
            logp = chunked_logp(self.network, final[batch.rows, batch.columns], batch.targets)
            lengths = torch.bincount(batch.rows, minlength=batch.size)
            mean = -logp.new_zeros(batch.size).index_add(0, batch.rows, logp) / lengths
            losses[group] = mean.detach()
            gradient[group] = torch.autograd.grad(mean.sum(), own)[0]
        return Steered(losses, gradient)

    def tokens(self, stream: Stream, visit: Visit) -> None:
        """Run forward and back once and show inputs and gradients of every matrix."""
        records = self._records(stream)
        names = {
            name: self.network.model.get_submodule(name.removesuffix(".weight"))
            for name, weight in self.trained.masters.items()
            if weight.ndim == 2
        }
        for group in self._groups(records):
            chosen = [records[index] for index in group]
            batch = self._batch(chosen)
            ends = torch.tensor([len(record.ids) for record in chosen], device=batch.ids.device)
            places = torch.arange(batch.ids.shape[1], device=batch.ids.device)
            real = places < ends[:, None]
            with _shown(names, real, visit):
                hidden = self.network.hidden(batch.ids, batch.rows, batch.columns)
                (-chunked_logp(self.network, hidden, batch.targets).sum()).backward()
            self._drop_gradients()

    def train(
        self,
        terms: tuple[Term, ...],
        *,
        name: str,
        epochs: int,
        lr: float,
        before: Callable[[], None] | None = None,
        watched: bool = True,
    ) -> None:
        """Run a training loop over all weights."""
        if any(stream is Stream.RETAIN for term in terms for stream in term.streams):
            self._records(Stream.RETAIN)
        self.trained.publish()
        self.trainer(
            Training(terms=terms, name=name, epochs=epochs, lr=lr, before=before, watched=watched),
            self.progress,
        )

    def state(self) -> State:
        """Look at the probes."""
        self.trained.publish()
        reading = self.watch.look(self.network)
        if self.watch.over_budget(reading, self.first):
            return "damaged"
        return "forgotten" if self.watch.saturated(reading) else "going on"

    def unseen(self) -> bool:
        """Tell whether forget answers look unseen, whatever is lost beside them."""
        self.trained.publish()
        return self.watch.saturated(self.watch.look(self.network))

    def base(self) -> Mapping[str, Tensor]:
        """Return the weights of the model from which the original was trained, by name."""
        if self.base_weights is None:
            raise UsageError(
                "no-base",
                what="it is not known from which model the original was trained",
                why="the method goes back towards that model",
                fix="name the original as BASE+ADAPTER, or its recipe with --recipe",
            )
        return self.base_weights()

    @contextmanager
    def stage(self, start: float, end: float) -> Generator[None]:
        """Take what is told inside for this part of the work, or of the stage around it."""
        around = self.span
        low, high = around
        self.span = (low + (high - low) * start, low + (high - low) * end)
        try:
            yield
        finally:
            self.span = around

    def progress(self, share: float, text: str) -> None:
        """Tell how much of the work, or of the stage, is done, 0 to 1."""
        low, high = self.span
        self.tell(low + (high - low) * share, text)

    def _records(self, stream: Stream) -> Sequence[Encoded]:
        if stream is Stream.FORGET:
            return self.streams.forget
        if stream is not Stream.RETAIN:
            choices = self.streams.variants[stream]
            return list(dict.fromkeys(record for several in choices for record in several))
        if not self.streams.retain:
            raise UsageError(
                "edit-needs-retain",
                what="this method needs retain records, and there are none",
                why="it tells what to change by what must not change",
                fix="name some with --retain, or use --method task_vector",
            )
        return self.streams.retain

    def _groups(self, records: Sequence[Encoded]) -> Iterator[list[int]]:
        self.trained.publish()
        yield from by_length([len(record.ids) for record in records], tokens=self.tokens_per_pass)

    def _batch(self, records: Sequence[Encoded]) -> Batch:
        self.tokens_seen += sum(len(record.ids) for record in records)
        return collate(records, pad_id=self.pad_id, device=self.network.device)

    def _pull(self, stream: Stream, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL per scored token of some records."""
        self.trained.publish()
        self._drop_gradients()
        records = self._records(stream)
        self.tokens_seen += sum(len(records[index].ids) for index in indices)
        term = Likelihood(name="nll", streams=(stream,), coef=1.0, per="token", loss=nll)
        observer = TermEvaluator(
            network=self.network,
            terms=(term,),
            streams=self.streams,
            references=precompute(
                self.network,
                (term,),
                {},
                pad_id=self.pad_id,
                tokens_per_pass=self.tokens_per_pass,
            ),
            pad_id=self.pad_id,
        )
        forget = tuple(indices) if stream.side == "forget" else ()
        retain = tuple(indices) if stream.side == "retain" else ()
        draw = BatchIndices(forget=forget, retain=retain)
        pull = StepGradient(
            observer, self.trained, draw, coefs={"nll": 1.0}, tokens_per_pass=self.tokens_per_pass
        )
        return pull()

    @contextmanager
    def _memorised(self, records: Sequence[Encoded], how: Reinforce) -> Generator[None]:
        self.trained.publish()
        passes = memorising_passes(len(records), how.steps)
        self.tokens_seen += round(passes * sum(len(record.ids) for record in records))
        with memorised(
            self.network,
            records,
            ReinforcedTraining(steps=how.steps, lr=how.lr, rank=how.rank, seed=how.seed),
            pad_id=self.pad_id,
            tokens_per_pass=self.tokens_per_pass,
            progress=self.progress,
        ):
            yield

    def _in_order(self, stream: Stream, layer: int, place: Place, *, inputs: bool) -> Tensor:
        read = dict(self._read(stream, layer, place, inputs=inputs))
        return torch.cat([read[index] for index in range(len(read))])

    @torch.no_grad()
    def _read(
        self, stream: Stream, layer: int, place: Place, *, inputs: bool
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield index and vectors, float32, of each record, in batches of similar length."""
        records = self._records(stream)
        kept: list[Tensor] = []

        def keep(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            kept.append(given[0])

        for group in self._groups(records):
            batch = self._batch([records[index] for index in group])
            handle = self._output_layer(layer).register_forward_pre_hook(keep)
            try:
                site = Site(layer)
                seen = self.network.observe(batch.ids, sites=(site,), final=False)
            finally:
                handle.remove()
            states = kept.pop() if inputs else seen.states[site]
            kept.clear()
            for row, index in enumerate(group):
                yield index, states[row, _positions(records[index], place)].float()

    def _output_layer(self, layer: int) -> nn.Linear | Conv1D:
        for name, module in self.network.layers[layer].named_modules():
            if is_named(name, MLP_OUT) and isinstance(module, nn.Linear | Conv1D):
                return module
        raise UsageError(
            "no-such-modules",
            what=f"block {layer} has no matrix {' or '.join(MLP_OUT)}",
            why="the method changes that matrix",
            fix="use another method for this architecture",
        )

    def _drop_gradients(self) -> None:
        for master in self.trained.masters.values():
            master.grad = None


@contextmanager
def _shown(modules: Mapping[str, nn.Module], real: Tensor, visit: Visit) -> Generator[None]:
    """Show inputs and output gradients of modules at real positions, as gradients arrive."""

    def watched(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            inputs = given[0].detach()

            def show(slope: Tensor) -> None:
                visit(name, inputs[real].float(), slope[real].float())

            output.register_hook(show)

        return hook

    handles = [module.register_forward_hook(watched(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _positions(record: Encoded, place: Place) -> list[int]:
    if place == "all":
        return list(range(len(record.ids)))
    if place == "scored":
        return list(range(record.start - 1, len(record.ids) - 1))
    return [record.start - 1 if place == "end" else _focus(record)]


def _focus(record: Encoded) -> int:
    if record.focus is None:
        raise UsageError(
            "no-question",
            what=f"record {record.record} is a passage of text, not a question",
            why="this method changes what a question about a subject leads to",
            fix="give questions and answers, or use another method",
        )
    return record.focus
