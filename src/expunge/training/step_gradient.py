"""Pulling gradients: the gradient of one step's terms at the weights, or at a point near them.

Curvature by sampled labels: the Gauss-Newton-Bartlett estimate of Sophia (arXiv:2305.14342).

    diag = N g'^2,   g' = grad (1/N) sum_t -log p(y'_t),   y'_t ~ p(. | x, y_<t)

over the N scored tokens of a step, forget and retain. With labels drawn from the model itself the
expectation is the diagonal of the Gauss-Newton matrix of the mean NLL; with the true labels it is
not.

The latent adversary: it moves hidden states so that forgotten answers come back.

The wrappers of a run, put together: from a step's loss to the gradient that is descended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from expunge.errors import ResourceError, UsageError, is_out_of_memory
from expunge.methods.base import Distribution, Likelihood, Predictions, Shape, Side, Stream
from expunge.methods.retain_losses import nll
from expunge.models.batching import Batch
from expunge.models.number_formats import quantised
from expunge.models.transformer import ActivationPatch, Network
from expunge.optim.base import Combine, Gradient, Latent, Mask, Memory, Optimiser, Robust, add
from expunge.optim.optimizers.adamw import AdamW
from expunge.optim.optimizers.sophia import SophiaG
from expunge.training.distributed import SOLO, Team
from expunge.training.forward import Part, TermEvaluator, chunked_logp
from expunge.training.sampler import BatchIndices
from expunge.training.trainable_weights import TrainableWeights, shape_of


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientEvaluations:
    """How a step takes its gradient."""

    apart: bool = False
    """Whether forget and retain terms have passes of their own."""
    forget: int = 1
    """Gradients of the forget terms."""
    moved: int | None = None
    """Block after which an adversary moves states of the forget records, in all of these but the
    last; None: no adversary."""


_ODD = 1_000_003


def sampled_nll(seed: int) -> Callable[[Predictions], Tensor]:
    """Return the loss -log p(y') for y' drawn from p, [n, V] -> [n] nats.

    The draw depends on the seed and on the tokens alone: it must be the same when the loss is
    computed again on the way back.
    """

    def loss(seen: Predictions) -> Tensor:
        log_p = torch.log_softmax(seen.logits, dim=-1)
        content = int(((seen.targets + 1) * (seen.places + 1)).sum())
        generator = torch.Generator().manual_seed((seed * _ODD + content) % 2**63)
        level = torch.rand(len(log_p), 1, generator=generator).to(log_p)
        summed = log_p.detach().exp().cumsum(-1)
        drawn = torch.searchsorted(summed, level * summed[:, -1:])
        return -log_p.gather(-1, drawn.clamp(max=log_p.shape[-1] - 1)).squeeze(-1)

    return loss


def curvature_terms(seed: int) -> tuple[Distribution, ...]:
    """Return the terms whose gradient, weighed by their share of tokens, is g'."""
    loss = sampled_nll(seed)
    return tuple(
        Distribution(name=stream.value, streams=(stream,), coef=1.0, loss=loss)
        for stream in (Stream.FORGET, Stream.RETAIN)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversary:
    """Projected descent on a change of the residual stream; formula in `wrappers.robust.lat`."""

    network: Network
    layer: int
    radius: float
    steps: int

    def push(self, batch: Batch, signs: Tensor) -> ActivationPatch:
        """Return the change that makes the targets likely.

        Args:
            batch: The records.
            signs: [N] 1 for scored tokens to make likely, -1 for those to make unlikely.
        """
        width = self.network.model.config.get_text_config().hidden_size
        device, dtype = self.network.device, self.network.model.dtype
        change = torch.zeros(*batch.ids.shape, width, device=device, dtype=dtype)
        for _ in range(self.steps):
            slope = self._slope(batch, signs, change).float()
            length = slope.norm(dim=-1, keepdim=True).clamp(min=1e-30)
            moved = change.float() - 2 * self.radius / self.steps * slope / length
            over = moved.norm(dim=-1, keepdim=True) / self.radius
            change = (moved / over.clamp(min=1.0)).to(change.dtype)
        return ActivationPatch(self.layer, change)

    def _slope(self, batch: Batch, signs: Tensor, change: Tensor) -> Tensor:
        change = change.detach().requires_grad_(True)
        seen = self.network.observe(
            batch.ids, push=ActivationPatch(self.layer, change), layout=batch.layout
        )
        assert seen.final is not None, "the whole trunk ran"
        logp = chunked_logp(self.network, seen.final[batch.rows, batch.columns], batch.targets)
        (slope,) = torch.autograd.grad(-(signs * logp).sum(), change)
        return slope.detach()


_RELEARN = Likelihood(name="nll", streams=(Stream.FORGET,), coef=1.0, per="token", loss=nll)


class StepGradient:
    """The gradients of one optimiser step.

    Args:
        observer: Evaluates the terms.
        weights: What is trained.
        draw: The records of the step.
        coefs: Coefficient of each term.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        team: The processes that take this step together.
    """

    def __init__(
        self,
        observer: TermEvaluator,
        weights: TrainableWeights,
        draw: BatchIndices,
        *,
        coefs: Mapping[str, float],
        tokens_per_pass: int,
        team: Team = SOLO,
    ) -> None:
        self._observer = observer
        self._weights = weights
        self._draw = draw
        self._coefs = coefs
        self._team = team
        self.tokens_per_pass = tokens_per_pass
        """Becomes smaller where memory was full."""
        self.values: dict[str, float] = {}
        """Each term's value where it was first pulled, without coefficient."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """The trained weights as they are, float32."""
        return {name: master.detach() for name, master in self._weights.masters.items()}

    def __call__(
        self, side: Side | None = None, *, at: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the gradient of the terms on one side, or of all; see `wrappers.protocols.Pull`.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        gradient, values = self._at(at, lambda: self._gradient(self._observer, self._coefs, side))
        self.values = values | self.values
        return gradient

    @property
    def shape(self) -> Shape:
        """What there is to know of the model."""
        return shape_of(self._observer.network)

    def latent(self, layer: int, *, radius: float, steps: int) -> dict[str, Tensor]:
        """Return the forget gradient while an adversary moves states after a block.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        adversary = Adversary(
            network=self._observer.network, layer=layer, radius=radius, steps=steps
        )
        observer = replace(self._observer, lower=None, push=adversary.push)
        gradient, values = self._gradient(observer, self._coefs, "forget")
        self.values = values | self.values
        return gradient

    def rounded(self) -> dict[str, Tensor]:
        """Return the forget gradient while the linear layers of the decoder hold 4 bits.

        What an adapter adds is not rounded; the weights come back bit for bit.

        Raises:
            UsageError: The weights are spread over processes.
            ResourceError: A single record does not fit in memory.
        """
        if self._team.root is not None:
            raise UsageError(
                "rounding-spread",
                what="[robust] rounding does not work on weights that are spread over processes",
                why="each process holds a part of a matrix, and a scale is that of whole rows",
                fix="train an adapter, or set robust.name to none",
            )
        with quantised(self._observer.network, bits=4):
            return self("forget")

    def relearn(self, *, at: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean NLL per token of the forget records.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        observer = replace(self._observer, terms=(_RELEARN,))
        return self._at(at, lambda: self._gradient(observer, {_RELEARN.name: 1.0}, None))[0]

    def curvature(self, seed: int) -> dict[str, Tensor]:
        """Return an estimate of the diagonal of the Gauss-Newton matrix of the step's mean NLL.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        terms = curvature_terms(seed)
        drawn = {t.name: self._observer.streams.drawn(t.streams[0], self._draw) for t in terms}
        counts = {name: sum(len(r.ids) - r.start for r in rows) for name, rows in drawn.items()}
        total = sum(counts.values())
        shares = {name: count / total for name, count in counts.items()}
        gradient, _ = self._gradient(replace(self._observer, terms=terms), shares, None)
        return {name: total * value.square() for name, value in gradient.items()}

    def _at(
        self,
        offset: Mapping[str, Tensor] | None,
        pulled: Callable[[], tuple[dict[str, Tensor], dict[str, float]]],
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Pull at an offset from the weights, which come back bit for bit."""
        if offset is None:
            return pulled()
        here = {name: weight.clone() for name, weight in self.weights.items()}
        self._weights.restore({n: w + offset[n] if n in offset else w for n, w in here.items()})
        try:
            return pulled()
        finally:
            self._weights.restore(here)

    def _gradient(
        self, observer: TermEvaluator, coefs: Mapping[str, float], side: Side | None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Accumulate over micro-batches; if memory is full, start again in smaller parts."""
        team = self._team
        while True:
            values: dict[str, float] = {}
            part: Part | None = None  # one whose way back failed must not be held any longer
            parts = observer.step_loss(
                self._draw, coefs=coefs, tokens_per_pass=self.tokens_per_pass, side=side
            )
            try:
                while (part := team.within(lambda parts=parts: next(parts, None))) is not None:
                    team.backward(part.loss)
                    for name, value in part.values.items():
                        values[name] = values.get(name, 0.0) + value
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take()
                self._shrink(error)
                continue
            return team.added_up(self._take(), values, self._weights.masters)

    def _take(self) -> dict[str, Tensor]:
        taken: dict[str, Tensor] = {}
        for name, master in self._weights.masters.items():
            if master.grad is not None:
                taken[name] = master.grad
                master.grad = None
        return taken

    def _shrink(self, error: BaseException) -> None:
        if self._team.root is not None:
            raise ResourceError(
                "out-of-memory",
                what=f"{self.tokens_per_pass} tokens in one pass do not fit in memory",
                why="the weights are spread over processes, which must all run the same passes",
                fix=f"halve --set train.tokens_per_pass={self.tokens_per_pass // 2}, and run again:"
                " it resumes",
            ) from error
        streams = self._observer.streams
        longest = max(len(record.ids) for record in (*streams.forget, *streams.retain))
        if self.tokens_per_pass <= longest:
            raise ResourceError(
                "out-of-memory",
                what=f"one record of {longest} tokens does not fit in memory",
                why="the batch was already reduced to a single record",
                fix="lower train.max_length or train.rank, or use a larger machine",
            ) from error
        self.tokens_per_pass = max(longest, self.tokens_per_pass // 2)


_MEAN = "average/"
_FEWEST = 2
"""Steps whose mean is taken, at least: that of one is the step itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientTransforms:
    """What stands between the loss and the step; nothing by default."""

    robust: Robust | None = None
    combine: Combine | None = None
    choose: Mask | None = None
    """Makes `mask` before the first step."""
    mask: Mapping[str, Tensor] | None = None
    optimiser: Optimiser = field(default_factory=AdamW)
    average_last: float = 0.0
    """Share of the steps, the last ones and at least two, whose weights are averaged into the
    result; 0: none."""

    @property
    def streams(self) -> set[Stream]:
        """Streams that are read even where no term of the method reads them."""
        if self.optimiser.curved:
            return {Stream.FORGET, Stream.RETAIN}
        return set() if self.robust is None else {Stream.FORGET}

    def pulls(self, shape: Shape) -> GradientEvaluations:
        """Return how a step takes its gradient, for the plan."""
        robust = self.robust
        return GradientEvaluations(
            apart=robust is not None or self.combine is not None,
            forget=1 if robust is None else robust.pulls,
            moved=robust.block(shape) if isinstance(robust, Latent) else None,
        )

    def gradient(self, pull: StepGradient, memory: Memory, generator: torch.Generator) -> Gradient:
        """Return the gradient of one step."""
        if self.robust is None and self.combine is None:
            gradient = pull()
        else:
            retain = pull("retain")
            if self.robust is None:
                forget = pull("forget")
            else:
                forget = self.robust.forget(pull, retain, memory, generator)
            if self.combine is None:
                gradient = add(forget, retain)
            else:
                gradient = self.combine.combine(forget, retain, memory)
        if self.mask is not None:
            for name, value in gradient.items():
                value.mul_(self.mask[name])
        return gradient

    def refresh(
        self, optimiser: torch.optim.Optimizer, pull: StepGradient, generator: torch.Generator
    ) -> None:
        """Give an optimiser that weighs steps by curvature a fresh estimate when it is due."""
        if isinstance(optimiser, SophiaG) and optimiser.due:
            seed = int(torch.randint(2**31, (), generator=generator))
            optimiser.refresh(pull.curvature(seed))

    @torch.no_grad()
    def average(self, weights: TrainableWeights, memory: Memory, *, step: int, steps: int) -> None:
        """Add the weights after `step` steps to the mean of the last ones."""
        first = steps - max(_FEWEST, round(self.average_last * steps))
        if not self.average_last or step <= first:
            return
        for name, master in weights.masters.items():
            mean = memory.get(_MEAN + name)
            if mean is None:
                memory[_MEAN + name] = master.detach().clone()
            else:
                mean.add_((master - mean) / (step - first))

    def settle(self, weights: TrainableWeights, memory: Memory) -> bool:
        """Set the weights to their mean, where one was begun; tell whether it was."""
        mean = {name: memory[_MEAN + name] for name in weights.masters if _MEAN + name in memory}
        if mean:
            weights.restore(mean)
        return bool(mean)
